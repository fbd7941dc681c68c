"""Which way a list of tasks is found: one walk for each shape of filter."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledgerq_shared.statements.read_counts import StateCount
from ledgerq_shared.statements.walks import (
    Along,
    TaskFilter,
    Walk,
    goes_either_way,
    is_shorter_along_successes,
    walk_of,
)
from ledgerq_shared.states import State

T0 = datetime(2026, 5, 1, tzinfo=UTC)
ONE, TWO = ["demo.add"], ["demo.add", "other.add"]
RARE = [State.RETRY, State.FAILURE, State.REVOKED]


@pytest.mark.parametrize(
    ("filter_", "walk"),
    [
        (TaskFilter(), Walk(Along.IDS)),
        (TaskFilter(submitted_after=T0, before_id="x"), Walk(Along.IDS)),
        (TaskFilter(task_types=ONE), Walk(Along.TYPES)),
        (TaskFilter(task_types=TWO), Walk(Along.TYPES, each_type=True)),
        (TaskFilter(queue="q"), Walk(Along.QUEUES)),
        *((TaskFilter(state=state), Walk(Along.STATES)) for state in RARE),
        (TaskFilter(task_types=ONE, queue="q"), Walk(Along.IDS)),
        (TaskFilter(task_types=TWO, queue="q"), Walk(Along.IDS, each_type=True)),
        (TaskFilter(task_types=ONE, state=State.FAILURE), Walk(Along.IDS)),
        (TaskFilter(queue="q", state=State.FAILURE), Walk(Along.IDS)),
        (TaskFilter(tag="t"), Walk(Along.TAGS)),
        (TaskFilter(tag="t", task_types=TWO, state=State.SUCCESS), Walk(Along.TAGS)),
        (TaskFilter(state=State.SUCCESS), Walk(Along.SUCCESSES)),
        (TaskFilter(state=State.SUCCESS, queue="q"), Walk(Along.SUCCESSES)),
        *((TaskFilter(state=state, queue="q"), Walk(Along.UNFINISHED)) for state in (State.PENDING, State.STARTED)),
        (TaskFilter(state=State.PENDING, tag="t"), Walk(Along.UNFINISHED_IN_ORDER)),
        (TaskFilter(state=State.STARTED, submitted_before=T0), Walk(Along.UNFINISHED_IN_ORDER)),
    ],
)
def test_a_filter_is_walked_along_what_it_asks_for(filter_: TaskFilter, walk: Walk):
    assert walk_of(filter_) == walk


@pytest.mark.parametrize(
    ("filter_", "walk"),
    [
        (TaskFilter(state=State.SUCCESS, task_types=ONE), Walk(Along.IDS)),
        (TaskFilter(state=State.SUCCESS, task_types=TWO), Walk(Along.IDS, each_type=True)),
        (TaskFilter(state=State.SUCCESS, queue="q"), Walk(Along.IDS)),
        (TaskFilter(state=State.SUCCESS), Walk(Along.SUCCESSES)),
        (TaskFilter(task_types=ONE), Walk(Along.TYPES)),
    ],
)
def test_successes_are_passed_by_where_that_is_longer_and_there_is_another_way(filter_: TaskFilter, walk: Walk):
    assert walk_of(filter_, along_successes=False) == walk


@pytest.mark.parametrize("along_successes", [True, False])
@pytest.mark.parametrize("tag", [None, "t"])
@pytest.mark.parametrize("queue", [None, "q"])
@pytest.mark.parametrize("types", [None, ONE, TWO])
@pytest.mark.parametrize("state", [None, *State])
def test_the_counters_are_asked_just_where_they_change_the_walk(
    state: State | None, types: list[str] | None, queue: str | None, tag: str | None, along_successes: bool
):
    filter_ = TaskFilter(state=state, task_types=types, queue=queue, tag=tag)
    other = walk_of(filter_, along_successes=not along_successes)
    assert (walk_of(filter_, along_successes=along_successes) != other) == goes_either_way(filter_)


@pytest.mark.parametrize(
    ("wanted", "others", "successes", "is_shorter"),
    [
        (30, 1_000_000, 100, True),  # a few successes behind what waits in their queue
        (30, 1_000_000, 30, True),  # all that succeeded is of this queue
        (1_000_000, 10, 1_000_000, True),
        (1_000_000, 10, 10_000_000, False),  # nine of other queues between two of this one
        (1, 1_000_000, 1_000_000, False),  # rare among all that succeeded: a million lie before it
        (0, 1_000_000, 10, False),  # there is none: all of either are passed over
        (10, 0, 10, False),  # nothing else is in the queue
    ],
)
def test_the_walk_with_fewer_others_to_pass_over_is_the_shorter_one(
    wanted: int, others: int, successes: int, is_shorter: bool
):
    counts = [
        StateCount("demo.add", State.SUCCESS, wanted),
        StateCount("demo.add", State.PENDING, others // 2),
        StateCount("demo.other", State.FAILURE, others - others // 2),
    ]
    assert is_shorter_along_successes(counts, successes=successes, limit=11) == is_shorter
