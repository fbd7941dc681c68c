"""Lists of tasks, newest first, and how many there are.

Each shape of filter has its index. The two states that say nothing about a row's place in ``task``, PENDING
and STARTED, are found through the tables that hold everything unfinished: ``ready``, ``held``, ``claim``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ledgerq_shared.ids import first_id_at
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import text_array
from ledgerq_shared.states import State

#: How far the clock that made an id may differ from the database's clock that wrote ``submitted_at``.
_CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks. ``None`` everywhere: all of them."""

    #: Full dotted names, any of which will do; see :func:`sum_counts` for how a short name becomes full ones.
    task_types: Sequence[str] | None = None
    state: State | None = None
    queue: str | None = None
    tag: str | None = None
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None
    #: Only ids below this one: where the last page ended.
    before_id: str | None = None

    @property
    def is_counted(self) -> bool:
        """Whether the counters answer "how many" exactly."""
        return self.tag is None and self.submitted_after is None and self.submitted_before is None


class SummaryRow(NamedTuple):
    """A task in a list."""

    id: str
    task_type: str
    state: str
    queue: str
    priority: int
    submitted_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    run_at: datetime | None
    attempt: int
    progress: float | None
    progress_status: str | None
    progress_at: datetime | None
    cancel_requested_at: datetime | None
    tags: list[str] | None


_COLUMNS = """t.id::text, t.task_type, t.state, t.queue, t.priority, t.submitted_at, t.started_at, t.completed_at,
       t.run_at, t.attempt, t.progress, t.progress_status, t.progress_at, t.cancel_requested_at, t.tags"""


def sum_counts(*, task_type: str | None, queue: str | None) -> Statement:
    """Rows ``(task_type, state, count)`` from the counters, exact without counting.

    Args:
        task_type: a dotted name; one without dots stands for all types whose last part it is.
    """
    conditions = ["true"]
    if task_type is not None:
        short = "" if "." in task_type else " OR right(task_type, length(%(type)s) + 1) = '.' || %(type)s"
        conditions.append(f"(task_type = %(type)s{short})")
    if queue is not None:
        conditions.append("queue = %(queue)s")
    return Statement(
        "SELECT task_type, state, sum(delta)::bigint FROM task_count "
        f"WHERE {' AND '.join(conditions)} GROUP BY task_type, state HAVING sum(delta) <> 0",
        {"type": task_type, "queue": queue},
    )


def list_tasks(filter_: TaskFilter, *, limit: int, offset: int, retrying: int) -> Statement:
    """Rows of :class:`SummaryRow`, highest id (newest) first.

    Args:
        retrying: how many tasks are in RETRY (or more): these are passed over to find PENDING.
    """
    source, params = _source(filter_, most=limit + offset, retrying=retrying)
    return Statement(
        f"SELECT {_COLUMNS} {source} ORDER BY t.id DESC LIMIT %(limit)s OFFSET %(offset)s",
        {**params, "limit": limit, "offset": offset},
    )


def count_tasks(filter_: TaskFilter, *, limit: int, retrying: int) -> Statement:
    """Row ``(count,)``, counting no further than ``limit``: for filters that have no counters."""
    source, params = _source(replace(filter_, before_id=None), most=limit, retrying=retrying)
    return Statement(f"SELECT count(*) FROM (SELECT {source} LIMIT %(limit)s) AS counted", {**params, "limit": limit})


def _source(filter_: TaskFilter, *, most: int, retrying: int) -> tuple[str, dict[str, Any]]:
    """FROM and WHERE of tasks ``t`` that pass the filter, of which the caller will read ``most``."""
    conditions, params = _conditions(filter_)
    params["most"] = most
    params["most_unfinished"] = most + retrying
    where = " AND ".join(conditions)
    if filter_.state in {State.PENDING, State.STARTED}:
        # OFFSET 0 keeps this a look-up of each candidate: a join would be planned from statistics of tables
        # whose size changes by the minute.
        return (
            f"FROM ({_candidates(filter_)}) AS c CROSS JOIN LATERAL "
            f"(SELECT * FROM task AS t WHERE t.id = c.task_id AND {where} OFFSET 0) AS t"
        ), params
    if filter_.task_types is not None and len(filter_.task_types) > 1:
        # One ordered index scan a type; `task_type = ANY(…)` would read and sort all of them.
        return (
            "FROM unnest(%(types)s::text[]) AS n(name) CROSS JOIN LATERAL (SELECT * FROM task AS t "
            f"WHERE t.task_type = n.name AND {where} ORDER BY t.id DESC LIMIT %(most)s) AS t"
        ), params
    if filter_.task_types is not None:
        where = f"t.task_type = (%(types)s::text[])[1] AND {where}"
    return f"FROM task AS t WHERE {where}", params


def _candidates(filter_: TaskFilter) -> str:
    """Ids that may be in the state; every unfinished task is in exactly one of the three tables."""
    own = ["true"]
    if filter_.before_id is not None:
        own.append("task_id < %(before_id)s::uuid")
    in_queue = "" if filter_.queue is None else "WHERE queue = %(queue)s"
    claimed = f"SELECT unnest(task_ids) AS task_id FROM claim {in_queue}"
    if filter_.state == State.STARTED:
        return claimed
    if filter_.queue is not None:
        own.append("queue = %(queue)s")
    if filter_.task_types is not None:
        own.append("task_type = ANY(%(types)s::text[])")
    newest = f"WHERE {' AND '.join(own)} ORDER BY task_id DESC LIMIT %(most_unfinished)s"
    if not filter_.is_counted:
        newest = f"WHERE {' AND '.join(own)}"  # any number of candidates may lack the tag or be of another time
    waiting = [f"(SELECT task_id FROM {table} {newest})" for table in ("ready", "held")]
    return " UNION ALL ".join([*waiting, claimed])


def _conditions(filter_: TaskFilter) -> tuple[list[str], dict[str, Any]]:
    params: dict[str, Any] = {"queue": filter_.queue, "tag": filter_.tag, "before_id": filter_.before_id}
    params["types"] = None if filter_.task_types is None else text_array(filter_.task_types)
    params["state"] = None if filter_.state is None else str(filter_.state)
    conditions = ["true"]
    if filter_.state in {State.RETRY, State.FAILURE, State.REVOKED}:
        conditions.append("t.exception_state = %(state)s")
    elif filter_.state is not None:
        conditions.append("t.state = %(state)s")
    if filter_.state in {State.PENDING, State.STARTED} and filter_.task_types is not None:
        conditions.append("t.task_type = ANY(%(types)s::text[])")
    if filter_.queue is not None:
        conditions.append("t.queue = %(queue)s")
    if filter_.tag is not None:
        conditions.append("t.tags @> ARRAY[%(tag)s::text]")
    if filter_.before_id is not None:
        conditions.append("t.id < %(before_id)s::uuid")
    # The range of ids lets the primary key find the place; the column itself decides.
    if filter_.submitted_after is not None:
        params["from_id"] = str(first_id_at(filter_.submitted_after - _CLOCK_SLACK))
        params["after"] = filter_.submitted_after.isoformat()
        conditions.append("t.id >= %(from_id)s::uuid AND t.submitted_at >= %(after)s::timestamptz")
    if filter_.submitted_before is not None:
        params["to_id"] = str(first_id_at(filter_.submitted_before + _CLOCK_SLACK))
        params["before"] = filter_.submitted_before.isoformat()
        conditions.append("t.id < %(to_id)s::uuid AND t.submitted_at < %(before)s::timestamptz")
    return conditions, params
