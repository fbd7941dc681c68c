"""Lists of tasks, newest first, and how many there are.

A list is a *walk* from the newest task on, which ends with the page. Each shape of filter has an index to walk along, or a
table with ids in their order: ``task_success``, ``task_tag``. PENDING and STARTED are found through the tables that hold
everything unfinished: ``ready``, ``held``, ``claim``. :mod:`~ledgerq_shared.statements.walks` says which.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from ledgerq_shared.ids import first_id_at
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import text_array
from ledgerq_shared.statements.walks import RARE, Along, TaskFilter, Walk, walk_of
from ledgerq_shared.states import State

#: How far the clock that made an id may differ from the database's clock that wrote ``submitted_at``.
_CLOCK_SLACK = timedelta(minutes=5)


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


def list_tasks(
    filter_: TaskFilter, *, limit: int, offset: int, retrying: int, along_successes: bool = True
) -> Statement[SummaryRow]:
    """Highest id (newest) first.

    Args:
        retrying: how many tasks are in RETRY (or more): these are passed over to find PENDING.
        along_successes: see :func:`~ledgerq_shared.statements.walks.walk_of`.
    """
    source, order = _source(filter_, walk_of(filter_, along_successes=along_successes))
    return Statement(
        f"SELECT {_COLUMNS} {source} ORDER BY {order} DESC LIMIT %(limit)s OFFSET %(offset)s",
        {**_params(filter_, most=limit + offset, retrying=retrying), "limit": limit, "offset": offset},
        row=SummaryRow._make,
    )


def count_tasks(
    filter_: TaskFilter, *, limit: int, retrying: int, along_successes: bool = True
) -> Statement[tuple[int]]:
    """How many there are, counted no further than ``limit``: for filters that have no counters."""
    everywhere = replace(filter_, before_id=None)
    params = {**_params(everywhere, most=limit, retrying=retrying), "limit": limit}
    if everywhere == TaskFilter(submitted_after=filter_.submitted_after, submitted_before=filter_.submitted_before):
        return Statement(_count_by_time(everywhere), params)
    if everywhere == TaskFilter(tag=filter_.tag):
        return Statement(
            "SELECT count(*) FROM (SELECT FROM task_tag WHERE tag = %(tag)s LIMIT %(limit)s) AS counted", params
        )
    source, _ = _source(everywhere, walk_of(everywhere, along_successes=along_successes))
    return Statement(f"SELECT count(*) FROM (SELECT {source} LIMIT %(limit)s) AS counted", params)


def _count_by_time(filter_: TaskFilter) -> str:
    """Count by the primary key alone where the ids leave no doubt, and look at rows only near the edges."""
    conditions = _conditions(filter_)
    edges = []
    if filter_.submitted_after is not None:
        edges.append("t.id < %(sure_from_id)s::uuid")
    if filter_.submitted_before is not None:
        edges.append("t.id >= %(sure_to_id)s::uuid" + (" AND t.id >= %(sure_from_id)s::uuid" if edges else ""))
    parts = [_bounds(filter_, "t.id", sure="sure_"), *([*conditions, edge] for edge in edges)]
    counted = " UNION ALL ".join(
        f"(SELECT FROM task AS t WHERE {' AND '.join(part)} LIMIT %(limit)s)" for part in parts
    )
    return f"SELECT count(*) FROM (SELECT FROM ({counted}) AS parts LIMIT %(limit)s) AS counted"


def _source(filter_: TaskFilter, walk: Walk) -> tuple[str, str]:
    """FROM and WHERE of tasks ``t`` that pass the filter, of which the caller will read ``most``, and what to order by."""
    where = " AND ".join(_conditions(filter_))
    match walk.along:
        case Along.UNFINISHED:
            # OFFSET 0 keeps this a look-up of each candidate: a join would be planned from statistics of tables
            # whose size changes by the minute.
            return f"FROM ({_candidates(filter_)}) AS c CROSS JOIN LATERAL {_each(where)}", "t.id"
        case Along.UNFINISHED_IN_ORDER:
            return f"FROM ({_walked(filter_, where)}) AS t", "t.id"
        case Along.TAGS:
            return _looked_up("task_tag", ["d.tag = %(tag)s"], filter_, where), "c.task_id"
        case Along.SUCCESSES:
            return _looked_up("task_success", ["true"], filter_, where), "c.task_id"
    if walk.each_type:
        return _each_type(filter_, walk.along), "t.id"
    if walk.along is Along.IDS:
        where = " AND ".join(_conditions(filter_, of_type=f"t.task_type = {_FIRST_TYPE}"))
        return f"FROM task AS t WHERE {where}", "t.id"
    served = _served(walk.along, _SERVES[walk.along])
    where = " AND ".join([served, *_conditions(filter_, served=walk.along)])
    return f"FROM task AS t WHERE {where}", f"{walk.along.value} DESC, t.id"


def _each_type(filter_: TaskFilter, along: Along) -> str:
    """One ordered index scan a type; ``task_type = ANY(…)`` would read and sort all of them."""
    is_served = along is Along.TYPES
    of_type = _served(along, "n.name") if is_served else "t.task_type = n.name"
    newest = "t.task_type DESC, t.id" if is_served else "t.id"
    passing = " AND ".join([of_type, *_conditions(filter_, served=Along.TYPES)])
    return (
        "FROM unnest(%(types)s::text[]) AS n(name) CROSS JOIN LATERAL (SELECT * FROM task AS t "
        f"WHERE {passing} ORDER BY {newest} DESC LIMIT %(most)s) AS t"
    )


def _served(along: Along, value: str) -> str:
    """The column is ``value``, said so that only the index by it and the id has the order wanted.

    Said as an equation, the planner may walk the primary key past tasks of other types or queues instead, because it takes
    them to be mixed evenly: of a rare one that has rested for minutes, that is a walk past all that came since.
    """
    column = along.value
    return (
        f"{column} IS NOT NULL AND ({column}, t.id) >= ({value}::text, %(first_id)s::uuid) "
        f"AND ({column}, t.id) <= ({value}::text, %(last_id)s::uuid)"
    )


_LEAST_ID, _GREATEST_ID = UUID(int=0), UUID(int=2**128 - 1)

_FIRST_TYPE = "(%(types)s::text[])[1]"
#: What an index by one column and the id is asked for.
_SERVES = {Along.TYPES: _FIRST_TYPE, Along.QUEUES: "%(queue)s", Along.STATES: "%(state)s"}


def _each(where: str) -> str:
    return f"(SELECT * FROM task AS t WHERE t.id = c.task_id AND {where} OFFSET 0) AS t"


def _looked_up(table: str, own: list[str], filter_: TaskFilter, where: str) -> str:
    """Walk a table that has the ids in order, and look each one up: ends with the page, never sorts."""
    passing = " AND ".join([*own, *_bounds(filter_, "d.task_id")])
    walked = f"SELECT d.task_id FROM {table} AS d WHERE {passing} ORDER BY d.task_id DESC"
    return f"FROM ({walked}) AS c CROSS JOIN LATERAL {_each(where)}"


def _walked(filter_: TaskFilter, where: str) -> str:
    """Unfinished tasks of a filter that any number of candidates may not pass: they lack the tag, or are of another time.

    Each table is walked from its newest id within the filter's times, and left when it has given a page.
    """
    own = _bounds(filter_, "d.task_id") or ["true"]
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


def _params(filter_: TaskFilter, *, most: int, retrying: int) -> dict[str, Any]:
    """All that the statements about a filter name; each names some of it.

    Ids are bounds that all tasks of the filter meet, as far as clocks may differ; those called ``sure`` only they meet.
    """
    after, before = filter_.submitted_after, filter_.submitted_before
    from_id = None if after is None else first_id_at(after - _CLOCK_SLACK)
    to_id = None if before is None else first_id_at(before + _CLOCK_SLACK)
    before_id = None if filter_.before_id is None else UUID(filter_.before_id)
    return {
        "types": None if filter_.task_types is None else text_array(filter_.task_types),
        "state": None if filter_.state is None else str(filter_.state),
        "queue": filter_.queue,
        "tag": filter_.tag,
        "after": None if after is None else after.isoformat(),
        "before": None if before is None else before.isoformat(),
        "before_id": filter_.before_id,
        "from_id": None if from_id is None else str(from_id),
        "to_id": None if to_id is None else str(to_id),
        "sure_from_id": None if after is None else str(first_id_at(after + _CLOCK_SLACK)),
        "sure_to_id": None if before is None else str(first_id_at(before - _CLOCK_SLACK)),
        "first_id": str(from_id or _LEAST_ID),
        "last_id": str(min(upper for upper in (before_id, to_id, _GREATEST_ID) if upper is not None)),
        "most": most,
        "most_unfinished": most + retrying,
    }


def _conditions(
    filter_: TaskFilter, *, served: Along | None = None, of_type: str = "t.task_type = ANY(%(types)s::text[])"
) -> list[str]:
    """What a task ``t`` has to meet; at least one condition.

    Args:
        served: what the walk asks for already.
        of_type: how to say that it is of the filter's types.
    """
    is_rare = filter_.state in RARE
    asked = {
        "t.exception_state = %(state)s": is_rare and served is not Along.STATES,
        "t.state = %(state)s": filter_.state is not None and not is_rare,
        of_type: filter_.task_types is not None and served is not Along.TYPES,
        "t.queue = %(queue)s": filter_.queue is not None and served is not Along.QUEUES,
        "t.tags @> ARRAY[%(tag)s::text]": filter_.tag is not None,
    }
    # The range of ids finds the place; the column itself decides.
    times = {
        "t.submitted_at >= %(after)s::timestamptz": filter_.submitted_after is not None,
        "t.submitted_at < %(before)s::timestamptz": filter_.submitted_before is not None,
    }
    return ["true", *_those(asked), *_bounds(filter_, "t.id"), *_those(times)]


def _bounds(filter_: TaskFilter, column: str, *, sure: str = "") -> list[str]:
    """Conditions on the id alone that all tasks of the filter meet; with ``sure_``, that only they meet."""
    return _those(
        {
            f"{column} < %(before_id)s::uuid": filter_.before_id is not None,
            f"{column} >= %({sure}from_id)s::uuid": filter_.submitted_after is not None,
            f"{column} < %({sure}to_id)s::uuid": filter_.submitted_before is not None,
        }
    )


def _those(conditions: dict[str, bool]) -> list[str]:
    return [condition for condition, is_asked in conditions.items() if is_asked]
