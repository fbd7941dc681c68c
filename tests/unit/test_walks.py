"""Which way a list of tasks is found: one walk for each shape of filter."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledgerq_shared.statements.read_list import Along, TaskFilter, Walk, walk_of
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
