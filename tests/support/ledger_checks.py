"""What must be true of a ledger at any moment, and what must be true when everything has ended."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from ledgerq_shared.events import StoredEvent, expand
from ledgerq_shared.states import FINAL, TRANSITIONS, State
from tests.support import databases

_STATE_AFTER = {kind: after for (_, after), kind in TRANSITIONS.items()}
#: Steps that leave the state as it is.
_NEUTRAL = {"dispatched", "progress", "log", "late_write_refused", "cancel_requested"}
_ENDS = {"succeeded", "failed", "revoked"}


def histories(database_url: str) -> dict[str, list[Any]]:
    """Every task's expanded history, by task id."""
    found: dict[str, list[Any]] = defaultdict(list)
    rows = databases.rows(
        database_url,
        "SELECT task_id::text, seq, at, kind, attempt, actor, claimed_at, started_at, data FROM task_event "
        "ORDER BY task_id, seq",
    )
    for task_id, *stored in rows:
        found[task_id].extend(expand([StoredEvent(*stored)]))
    return found


def check_ledger(database_url: str) -> None:
    """Counters equal a full count, histories are gapless and legal, and everything unfinished stands in one place."""
    states = dict(databases.rows(database_url, "SELECT id::text, state FROM task"))
    _check_counters(database_url)
    _check_places(database_url, states)
    for task_id, events in histories(database_url).items():
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), f"{task_id}: {events}"
        assert walk([event.kind for event in events]) == states[task_id], f"{task_id}: {events}"


def check_all_ended(database_url: str, accepted: list[str]) -> None:
    """Every accepted task has ended, once."""
    check_ledger(database_url)
    states = dict(databases.rows(database_url, "SELECT id::text, state FROM task"))
    assert not [task_id for task_id in accepted if State(states.get(task_id, "PENDING")) not in FINAL]
    for task_id, events in histories(database_url).items():
        ends = [event.kind for event in events if event.kind in _ENDS]
        assert len(ends) == 1, f"{task_id} ended {len(ends)} times: {events}"
    assert databases.rows(database_url, "SELECT count(*) FROM claim") == [(0,)]


def walk(kinds: list[str]) -> State:
    """The state at the end of a history; fails where a step is not legal."""
    assert kinds[0] == "submitted"
    state = State.PENDING
    for kind in kinds[1:]:
        if kind in _NEUTRAL:
            continue
        if kind == "replaced":
            assert state is State.STARTED
            state = State.PENDING
            continue
        after = _STATE_AFTER[kind]
        assert (state, after) in TRANSITIONS, f"{state} -> {after} in {kinds}"
        state = after
    return state


def _check_counters(database_url: str) -> None:
    counted = databases.rows(
        database_url,
        "SELECT task_type, queue, state, sum(delta)::bigint FROM task_count GROUP BY 1, 2, 3 HAVING sum(delta) <> 0",
    )
    real = databases.rows(database_url, "SELECT task_type, queue, state, count(*) FROM task GROUP BY 1, 2, 3")
    assert sorted(counted) == sorted(real)


def _check_places(database_url: str, states: dict[str, str]) -> None:
    places = Counter(
        task_id
        for (task_id,) in databases.rows(
            database_url,
            "SELECT task_id::text FROM ready UNION ALL SELECT task_id::text FROM held "
            "UNION ALL SELECT unnest(task_ids)::text FROM claim",
        )
    )
    unfinished = {task_id for task_id, state in states.items() if State(state) not in FINAL}
    assert set(places) == unfinished
    assert not [task_id for task_id, count in places.items() if count > 1]
