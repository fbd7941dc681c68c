"""Lists of tasks, newest first, and how many there are.

Each shape of filter has its index, or a table with ids in their order: ``task_success``, ``task_tag``. PENDING and
STARTED are found through the tables that hold everything unfinished: ``ready``, ``held``, ``claim``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

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


def list_tasks(
    filter_: TaskFilter, *, limit: int, offset: int, retrying: int, along_successes: bool = True
) -> Statement:
    """Rows of :class:`SummaryRow`, highest id (newest) first.

    Args:
        retrying: how many tasks are in RETRY (or more): these are passed over to find PENDING.
        along_successes: of SUCCESS with a task type or queue, whether to look through all that succeeded rather than
            through all of that type or queue: what passes over less.
    """
    source, order, params = _source(filter_, most=limit + offset, retrying=retrying, along_successes=along_successes)
    return Statement(
        f"SELECT {_COLUMNS} {source} ORDER BY {order} DESC LIMIT %(limit)s OFFSET %(offset)s",
        {**params, "limit": limit, "offset": offset},
    )


def count_tasks(filter_: TaskFilter, *, limit: int, retrying: int, along_successes: bool = True) -> Statement:
    """Row ``(count,)``, counting no further than ``limit``: for filters that have no counters."""
    everywhere = replace(filter_, before_id=None)
    if everywhere == TaskFilter(submitted_after=filter_.submitted_after, submitted_before=filter_.submitted_before):
        return _count_by_time(everywhere, limit=limit)
    if everywhere == TaskFilter(tag=filter_.tag):
        sql = "SELECT count(*) FROM (SELECT FROM task_tag WHERE tag = %(tag)s LIMIT %(limit)s) AS counted"
        return Statement(sql, {"tag": filter_.tag, "limit": limit})
    source, _, params = _source(everywhere, most=limit, retrying=retrying, along_successes=along_successes)
    return Statement(f"SELECT count(*) FROM (SELECT {source} LIMIT %(limit)s) AS counted", {**params, "limit": limit})


def _count_by_time(filter_: TaskFilter, *, limit: int) -> Statement:
    """Count by the primary key alone where the ids leave no doubt, and look at rows only near the edges."""
    conditions, params = _conditions(filter_)
    sure = list(_bounds(filter_, params, "t.id", slack=-_CLOCK_SLACK))
    edges = []
    if filter_.submitted_after is not None:
        edges.append("t.id < %(sure_from_id)s::uuid")
    if filter_.submitted_before is not None:
        edges.append("t.id >= %(sure_to_id)s::uuid" + (" AND t.id >= %(sure_from_id)s::uuid" if edges else ""))
    parts = [sure, *([*conditions, edge] for edge in edges)]
    counted = " UNION ALL ".join(
        f"(SELECT FROM task AS t WHERE {' AND '.join(part)} LIMIT %(limit)s)" for part in parts
    )
    return Statement(
        f"SELECT count(*) FROM (SELECT FROM ({counted}) AS parts LIMIT %(limit)s) AS counted",
        {**params, "limit": limit},
    )


def _source(filter_: TaskFilter, *, most: int, retrying: int, along_successes: bool) -> tuple[str, str, dict[str, Any]]:
    """FROM and WHERE of tasks ``t`` that pass the filter, of which the caller will read ``most``, and what to order by."""
    conditions, params = _conditions(filter_)
    params["most"] = most
    params["most_unfinished"] = most + retrying
    where = " AND ".join(conditions)
    if filter_.state in {State.PENDING, State.STARTED}:
        if not filter_.is_counted:
            return f"FROM ({_walked(filter_, where, params)}) AS t", "t.id", params
        # OFFSET 0 keeps this a look-up of each candidate: a join would be planned from statistics of tables
        # whose size changes by the minute.
        return f"FROM ({_candidates(filter_)}) AS c CROSS JOIN LATERAL {_each(where)}", "t.id", params
    if filter_.tag is not None:
        return _along("task_tag", ["d.tag = %(tag)s"], filter_, where, params)
    if filter_.state is State.SUCCESS and (along_successes or (filter_.task_types, filter_.queue) == (None, None)):
        return _along("task_success", ["true"], filter_, where, params)
    asked = [column for column, (equation, _) in _EQUATIONS.items() if equation in conditions]
    own = asked[0] if len(asked) == 1 and filter_.state is not State.SUCCESS else None
    if filter_.task_types is not None and len(filter_.task_types) > 1:
        # One ordered index scan a type; `task_type = ANY(…)` would read and sort all of them.
        others = [condition for condition in conditions if condition != _OF_TYPES]
        of_type = _along_index(own, "n.name", params) if own else "t.task_type = n.name"
        newest = "t.task_type DESC, t.id" if own else "t.id"
        return (
            (
                "FROM unnest(%(types)s::text[]) AS n(name) CROSS JOIN LATERAL (SELECT * FROM task AS t "
                f"WHERE {' AND '.join([of_type, *others])} ORDER BY {newest} DESC LIMIT %(most)s) AS t"
            ),
            "t.id",
            params,
        )
    if own is not None:
        equation, value = _EQUATIONS[own]
        others = [condition for condition in conditions if condition != equation]
        where = " AND ".join([_along_index(own, value, params), *others])
        return f"FROM task AS t WHERE {where}", f"{own} DESC, t.id", params
    where = where.replace(_OF_TYPES, f"t.task_type = {_FIRST_TYPE}")
    return f"FROM task AS t WHERE {where}", "t.id", params


def _along_index(column: str, value: str, params: dict[str, Any]) -> str:
    """``column`` is ``value``, said so that only the index by it and the id has the order wanted.

    Said as an equation, the planner may walk the primary key past tasks of other types or queues instead, because it takes
    them to be mixed evenly: of a rare one that has rested for minutes, that is a walk past all that came since.

    Args:
        params: of :func:`_conditions`, with the bounds of the ids; both ends of the walk are added.
    """
    upper = [UUID(params[name]) for name in ("before_id", "to_id") if params.get(name)]
    params["first_id"] = params.get("from_id", str(_LEAST_ID))
    params["last_id"] = str(min([_GREATEST_ID, *upper]))
    return (
        f"{column} IS NOT NULL AND ({column}, t.id) >= ({value}::text, %(first_id)s::uuid) "
        f"AND ({column}, t.id) <= ({value}::text, %(last_id)s::uuid)"
    )


_LEAST_ID, _GREATEST_ID = UUID(int=0), UUID(int=2**128 - 1)

#: Types of which there may be several.
_OF_TYPES = "t.task_type = ANY(%(types)s::text[])"
_FIRST_TYPE = "(%(types)s::text[])[1]"
_IN_STATE = "t.exception_state = %(state)s"
_IN_QUEUE = "t.queue = %(queue)s"

#: By the first column of an index ``(…, id)``: the condition that it serves, and the value that it asks for.
_EQUATIONS = {
    "t.task_type": (_OF_TYPES, _FIRST_TYPE),
    "t.queue": (_IN_QUEUE, "%(queue)s"),
    "t.exception_state": (_IN_STATE, "%(state)s"),
}


def _each(where: str) -> str:
    return f"(SELECT * FROM task AS t WHERE t.id = c.task_id AND {where} OFFSET 0) AS t"


def _along(
    table: str, own: list[str], filter_: TaskFilter, where: str, params: dict[str, Any]
) -> tuple[str, str, dict[str, Any]]:
    """Walk a table that has the ids in order, and look each one up: ends with the page, never sorts."""
    passing = " AND ".join([*own, *_bounds(filter_, params, "d.task_id")])
    walked = f"SELECT d.task_id FROM {table} AS d WHERE {passing} ORDER BY d.task_id DESC"
    return f"FROM ({walked}) AS c CROSS JOIN LATERAL {_each(where)}", "c.task_id", params


def _walked(filter_: TaskFilter, where: str, params: dict[str, Any]) -> str:
    """Unfinished tasks of a filter that any number of candidates may not pass: they lack the tag, or are of another time.

    Each table is walked from its newest id within the filter's times, and left when it has given a page.
    """
    own = list(_bounds(filter_, params, "d.task_id")) or ["true"]
    in_queue = "" if filter_.queue is None else "WHERE queue = %(queue)s"
    looked_up = f"CROSS JOIN LATERAL {_each(where)}"
    claimed = f"(SELECT t.* FROM (SELECT unnest(task_ids) AS task_id FROM claim {in_queue}) AS c {looked_up})"
    if filter_.state == State.STARTED:
        return claimed
    if filter_.queue is not None:
        own.append("d.queue = %(queue)s")
    if filter_.task_types is not None:
        own.append("d.task_type = ANY(%(types)s::text[])")
    waiting = [
        f"(SELECT t.* FROM (SELECT d.task_id FROM {table} AS d WHERE {' AND '.join(own)} ORDER BY d.task_id DESC) AS c "
        f"{looked_up} ORDER BY c.task_id DESC LIMIT %(most)s)"
        for table in ("ready", "held")
    ]
    return " UNION ALL ".join([*waiting, claimed])


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
    waiting = [f"(SELECT task_id FROM {table} {newest})" for table in ("ready", "held")]
    return " UNION ALL ".join([*waiting, claimed])


def _conditions(filter_: TaskFilter) -> tuple[list[str], dict[str, Any]]:
    params: dict[str, Any] = {"queue": filter_.queue, "tag": filter_.tag, "before_id": filter_.before_id}
    params["types"] = None if filter_.task_types is None else text_array(filter_.task_types)
    params["state"] = None if filter_.state is None else str(filter_.state)
    conditions = ["true"]
    if filter_.state in {State.RETRY, State.FAILURE, State.REVOKED}:
        conditions.append(_IN_STATE)
    elif filter_.state is not None:
        conditions.append("t.state = %(state)s")
    if filter_.task_types is not None:
        conditions.append(_OF_TYPES)
    if filter_.queue is not None:
        conditions.append(_IN_QUEUE)
    if filter_.tag is not None:
        conditions.append("t.tags @> ARRAY[%(tag)s::text]")
    conditions += _bounds(filter_, params, "t.id")
    # The range of ids finds the place; the column itself decides.
    if filter_.submitted_after is not None:
        params["after"] = filter_.submitted_after.isoformat()
        conditions.append("t.submitted_at >= %(after)s::timestamptz")
    if filter_.submitted_before is not None:
        params["before"] = filter_.submitted_before.isoformat()
        conditions.append("t.submitted_at < %(before)s::timestamptz")
    return conditions, params


def _bounds(filter_: TaskFilter, params: dict[str, Any], column: str, slack: timedelta = _CLOCK_SLACK) -> Iterator[str]:
    """Conditions on the id alone that all tasks of the filter meet; with negative ``slack``, that only they meet."""
    kind = "" if slack > timedelta(0) else "sure_"
    if filter_.before_id is not None:
        yield f"{column} < %(before_id)s::uuid"
    if filter_.submitted_after is not None:
        params[f"{kind}from_id"] = str(first_id_at(filter_.submitted_after - slack))
        yield f"{column} >= %({kind}from_id)s::uuid"
    if filter_.submitted_before is not None:
        params[f"{kind}to_id"] = str(first_id_at(filter_.submitted_before + slack))
        yield f"{column} < %({kind}to_id)s::uuid"
