"""The table of states is closed: words, finals and steps agree with one another."""

from __future__ import annotations

import itertools

import pytest
from celery import states as celery_states

from ledgerq_shared.events import Event
from ledgerq_shared.states import FINAL, STARTABLE, TRANSITIONS, State, is_legal


def test_the_words_are_celerys_own():
    celerys = {celery_states.PENDING, celery_states.STARTED, celery_states.RETRY}
    assert {str(state) for state in State} - {str(state) for state in FINAL} == celerys
    assert {str(state) for state in FINAL} == {celery_states.SUCCESS, celery_states.FAILURE, celery_states.REVOKED}
    assert f"{State.PENDING}" == "PENDING"


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_a_step_is_legal_exactly_when_the_table_names_its_event(before: State, after: State):
    assert is_legal(before, after) == ((before, after) in TRANSITIONS)


def test_no_step_stays_where_it_is():
    assert not [pair for pair in TRANSITIONS if pair[0] is pair[1]]


def test_only_a_person_leads_out_of_a_final_state_and_nothing_leads_out_of_success():
    out = {pair: kinds for pair, kinds in TRANSITIONS.items() if pair[0] in FINAL}
    assert set(out.values()) == {("resubmitted",)}
    assert State.SUCCESS not in {before for before, _ in out}


def test_exactly_the_startable_states_lead_to_started():
    assert {before for before, after in TRANSITIONS if after is State.STARTED} == STARTABLE


def test_success_comes_only_from_started():
    assert [before for before, after in TRANSITIONS if after is State.SUCCESS] == [State.STARTED]


def test_every_state_can_be_reached_and_every_task_can_end():
    reached = {State.PENDING}
    while new := {after for before, after in TRANSITIONS if before in reached} - reached:
        reached |= new
    assert reached == set(State)
    can_end = set(FINAL)
    while new := {before for before, after in TRANSITIONS if after in can_end} - can_end:
        can_end |= new
    assert can_end == set(State)


def test_one_event_leads_to_one_state():
    targets: dict[str, set[State]] = {}
    for (_, after), kind in _steps():
        targets.setdefault(kind, set()).add(after)
    assert all(len(states) == 1 for states in targets.values()), targets


def test_every_event_of_the_table_is_a_documented_kind():
    # The list of kinds stands in the comment of Event.kind; what cannot be read there cannot be relied on.
    import inspect

    source = inspect.getsource(Event)
    assert not [kind for _, kind in _steps() if kind not in source]


def _steps() -> list[tuple[tuple[State, State], str]]:
    return [(pair, kind) for pair, kinds in TRANSITIONS.items() for kind in kinds]
