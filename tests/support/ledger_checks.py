"""Whether a ledger is sound: what must hold whatever happened to the processes that wrote it.

`problems` reads one consistent snapshot, so it may also be asked while everything runs. Each finding is one line that
names the task; an empty list means that the ledger is sound.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2

from ledgerq_shared.events import StoredEvent, expand
from ledgerq_shared.states import FINAL, TRANSITIONS, State
from tests.support import replay

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from ledgerq_shared.events import Event

#: The state that a kind of event leaves its task in; all other kinds leave it as it is.
STATE_AFTER: dict[str, State] = {kind: after for (_, after), kinds in TRANSITIONS.items() for kind in kinds}
#: Events that do not move a task, with the states in which they may stand.
ALLOWED_IN = {
    "dispatched": {State.PENDING, State.RETRY},
    "progress": {State.STARTED},
    "log": {State.STARTED},
    "cancel_requested": set(State) - FINAL,
    "late_write_refused": set(State),
    "delivery_failed": set(State),
}


@dataclass(frozen=True)
class Ledger:
    """All that the checks need, from one snapshot. Ids are texts."""

    #: ``(state, seq, attempt, completed_at)`` by task id.
    tasks: dict[str, tuple[State, int, int, object]]
    events: dict[str, list[Event]]
    #: Names of the places (``ready``, ``held``, ``claim``) where a task id stands, once per row.
    places: dict[str, list[str]]
    #: ``(task_type, queue, state) -> count``, by a full count and by the counters.
    counted: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    counters: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    #: ``(key, task id)`` of unique keys that are held until their task is final.
    keys: list[tuple[str, str]] = field(default_factory=list)
    #: What lists of SUCCESS are read from.
    successes: set[str] = field(default_factory=set)
    #: ``(submitted_at, started_at, completed_at)`` by task id.
    times: dict[str, tuple[datetime, datetime | None, datetime | None]] = field(default_factory=dict)


def read(database_url: str) -> Ledger:
    """Read everything in one transaction."""
    connection = psycopg2.connect(database_url)
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        return read_on(connection)
    finally:
        connection.close()


def read_on(connection: psycopg2.extensions.connection) -> Ledger:
    """Read everything in one transaction of a connection whose transactions are ``REPEATABLE READ``."""
    with connection, connection.cursor() as cursor:

        def rows(sql: str) -> list[tuple[Any, ...]]:
            cursor.execute(sql)
            return cursor.fetchall()

        places = defaultdict(list)
        for place, task_id in rows(
            "SELECT 'ready', task_id::text FROM ready UNION ALL SELECT 'held', task_id::text FROM held "
            "UNION ALL SELECT 'claim', unnest(task_ids)::text FROM claim"
        ):
            places[task_id].append(place)
        stored = defaultdict(list)
        for task_id, *event in rows(
            "SELECT task_id::text, seq, at, kind, attempt, actor, claimed_at, started_at, data FROM task_event "
            "ORDER BY task_id, seq"
        ):
            stored[task_id].append(StoredEvent(*event))
        return Ledger(
            tasks={
                row[0]: (State(row[1]), *row[2:])
                for row in rows("SELECT id::text, state, seq, attempt, completed_at FROM task")
            },
            events={task_id: list(expand(events)) for task_id, events in stored.items()},
            places=dict(places),
            counted=_counter(rows("SELECT task_type, queue, state, count(*) FROM task GROUP BY 1, 2, 3")),
            counters=_counter(rows("SELECT task_type, queue, state, sum(delta) FROM task_count GROUP BY 1, 2, 3")),
            keys=[(row[0], row[1]) for row in rows("SELECT key, task_id::text FROM unique_key WHERE until IS NULL")],
            successes={row[0] for row in rows("SELECT task_id::text FROM task_success")},
            times={
                row[0]: row[1:] for row in rows("SELECT id::text, submitted_at, started_at, completed_at FROM task")
            },
        )


def problems(database_url: str) -> list[str]:
    """What is wrong with the ledger, one line each."""
    return problems_of(read(database_url))


def problems_of(ledger: Ledger) -> list[str]:
    """What is wrong with what was read, one line each."""
    return [
        *_problems_with_places(ledger),
        *_problems_with_replay(ledger),
        *_problems_with_counters(ledger),
        *_problems_with_keys(ledger),
        *_problems_with_successes(ledger),
        *_problems_with_times(ledger),
        *(
            f"task {task_id}: {problem}"
            for task_id, (state, seq, attempt, _) in ledger.tasks.items()
            for problem in problems_with_history(ledger.events.get(task_id, []), state, seq=seq, attempt=attempt)
        ),
    ]


def problems_with_history(history: Sequence[Event], state: State, *, seq: int, attempt: int) -> list[str]:
    """What is wrong with one task's expanded events, given what its row says."""
    found = []
    numbers = [event.seq for event in history]
    if numbers != list(range(1, seq + 1)):
        found.append(f"events are numbered {numbers}, its row says 1 to {seq}")
    if not history or history[0].kind != "submitted":
        return [*found, "the history does not begin with `submitted`"]
    before: State = State.PENDING
    for event in history[1:]:
        problem, before = _step(event, before)
        found += problem
    if before is not state:
        found.append(f"its row says {state}, its history {before}: {[event.kind for event in history]}")
    begun = sum(event.kind == "started" for event in history)
    if begun != attempt:
        found.append(f"its row says {attempt} attempts, its history {begun}")
    return found


def _step(event: Event, before: State) -> tuple[list[str], State]:
    if event.kind in STATE_AFTER:
        after = STATE_AFTER[event.kind]
        # Two final events in a row are no transition either, so this also finds a task that ended twice.
        is_legal = event.kind in TRANSITIONS.get((before, after), ())
        return [] if is_legal else [f"event {event.seq} `{event.kind}` in state {before}"], after
    if before in ALLOWED_IN.get(event.kind, set()):
        return [], before
    return [f"event {event.seq} `{event.kind}` in state {before}"], before


def _problems_with_places(ledger: Ledger) -> Iterable[str]:
    """Everything unfinished stands in exactly one of ready, held and the claims; nothing else does."""
    for task_id, (state, _, _, completed_at) in ledger.tasks.items():
        places = ledger.places.get(task_id, [])
        if (completed_at is not None) != (state in FINAL):
            yield f"task {task_id} is {state} with completed_at {completed_at}"
        if state in FINAL and places:
            yield f"task {task_id} is {state} and still in {places}"
        if state not in FINAL and len(places) != 1:
            yield f"task {task_id} is {state} and in {places or 'neither ready, held nor a claim'}"
        if state is State.STARTED and places not in (["claim"], []):
            yield f"task {task_id} is STARTED and in {places}"
    for task_id in ledger.places.keys() - ledger.tasks.keys():
        yield f"{ledger.places[task_id]} name {task_id}, which is no task"


def _problems_with_replay(ledger: Ledger) -> Iterable[str]:
    """The protocol allows each history, and it ends where the task stands."""
    for task_id, (state, *_) in ledger.tasks.items():
        for problem in replay.problems_with(ledger.events.get(task_id, []), state, ledger.places.get(task_id, [])):
            yield f"task {task_id}: {problem}"


def _problems_with_counters(ledger: Ledger) -> Iterable[str]:
    for key in sorted(ledger.counted.keys() | ledger.counters.keys()):
        if ledger.counted[key] != ledger.counters[key]:
            yield f"counter of {key} says {ledger.counters[key]}, there are {ledger.counted[key]}"


def _problems_with_successes(ledger: Ledger) -> Iterable[str]:
    succeeded = {task_id for task_id, row in ledger.tasks.items() if row[0] is State.SUCCESS}
    for task_id in sorted(succeeded ^ ledger.successes):
        yield f"task {task_id} is {'not ' if task_id in succeeded else ''}among the successes but {ledger.tasks[task_id][0]}"


def _problems_with_times(ledger: Ledger) -> Iterable[str]:
    """No history runs backwards, and a row says the same as its history."""
    for task_id, (submitted_at, started_at, completed_at) in ledger.times.items():
        history = ledger.events.get(task_id, [])
        for before, event in itertools.pairwise(history):
            if event.at < before.at:
                yield f"task {task_id}: `{event.kind}` at {event.at}, `{before.kind}` before it at {before.at}"
        if completed_at is not None and completed_at < (started_at or submitted_at):
            yield f"task {task_id} was completed at {completed_at} and begun at {started_at or submitted_at}"
        if started_at is not None and started_at < submitted_at:
            yield f"task {task_id} was begun at {started_at} and submitted at {submitted_at}"
        begun = [event.at for event in history if event.kind == "started"]
        if begun and begun[-1] != started_at:
            yield f"task {task_id}: its row says that it began at {started_at}, its history {begun[-1]}"
        ended = [event.at for event in history if STATE_AFTER.get(event.kind) in FINAL]
        if completed_at is not None and ended and ended[-1] != completed_at:
            yield f"task {task_id}: its row says that it ended at {completed_at}, its history {ended[-1]}"


def _problems_with_keys(ledger: Ledger) -> Iterable[str]:
    """Whatever ends a task frees its unique key in the same statement."""
    for key, task_id in ledger.keys:
        if task_id not in ledger.tasks:
            yield f"unique key {key!r} is held by {task_id}, which is no task"
        elif (state := ledger.tasks[task_id][0]) in FINAL:
            yield f"unique key {key!r} is held by task {task_id}, which is {state}"


def _counter(rows: list[tuple[Any, ...]]) -> Counter[tuple[str, str, str]]:
    return Counter({(task_type, queue, state): int(count) for task_type, queue, state, count in rows})


def assert_sound(database_url: str) -> None:
    """Fail with everything that is wrong with the ledger."""
    found = problems(database_url)
    assert not found, "\n".join(found[:50])


def assert_all_ended(database_url: str, accepted: Iterable[object]) -> None:
    """Fail unless the ledger is sound and exactly the ``accepted`` tasks (ids) are in it, all of them ended."""
    assert_sound(database_url)
    tasks = read(database_url).tasks
    wanted = {str(task_id) for task_id in accepted}
    lost, unknown = wanted - tasks.keys(), tasks.keys() - wanted
    assert not lost, f"{len(lost)} accepted tasks are not in the ledger: {sorted(lost)[:20]}"
    assert not unknown, f"{len(unknown)} tasks in the ledger were never accepted: {sorted(unknown)[:20]}"
    unfinished = {task_id: str(row[0]) for task_id, row in tasks.items() if row[0] not in FINAL}
    assert not unfinished, f"{len(unfinished)} tasks have not ended: {dict(list(unfinished.items())[:20])}"
