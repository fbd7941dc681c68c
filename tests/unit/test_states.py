"""The table of states is closed: words, finals and steps agree with one another."""

from __future__ import annotations

import json
import pickle
import re

import pytest
from celery import states as celery_states

from ledgerq_shared.events import EventKind
from ledgerq_shared.states import FINAL, STARTABLE, TRANSITIONS, State
from ledgerq_shared.task_errors import TaskError


def test_the_words_are_celerys_own():
    original = {celery_states.PENDING, celery_states.STARTED, celery_states.RETRY}
    assert {str(state) for state in State} - {str(state) for state in FINAL} == original
    assert {str(state) for state in FINAL} == {celery_states.SUCCESS, celery_states.FAILURE, celery_states.REVOKED}
    assert f"{State.PENDING}" == "PENDING"


@pytest.mark.parametrize("words", [State, EventKind, TaskError])
def test_every_word_says_what_it_means_and_is_read_back_as_itself(words: type[State | EventKind | TaskError]):
    for word in words:
        assert re.fullmatch(r"[`A-Z].+\.", word.meaning)
        assert words(word.value) is pickle.loads(pickle.dumps(word)) is word  # noqa: S301 - our own
        assert json.dumps([word]) == f'["{word.value}"]'


def test_no_step_stays_where_it_is():
    assert not [pair for pair in TRANSITIONS if pair[0] is pair[1]]


def test_only_a_person_leads_out_of_a_final_state_and_nothing_leads_out_of_success():
    out = {pair: kinds for pair, kinds in TRANSITIONS.items() if pair[0] in FINAL}
    assert set(out.values()) == {(EventKind.RESUBMITTED,)}
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
    targets: dict[EventKind, set[State]] = {}
    for (_, after), kind in _steps():
        targets.setdefault(kind, set()).add(after)
    assert all(len(states) == 1 for states in targets.values()), targets


def _steps() -> list[tuple[tuple[State, State], EventKind]]:
    return [(pair, kind) for pair, kinds in TRANSITIONS.items() for kind in kinds]
