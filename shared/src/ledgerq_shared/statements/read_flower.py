"""Read tasks for Flower's pages: which are the newest, and which of those it shows are no longer as it shows them.

All of it by the primary key (or Celery's id) of so many tasks; long values are cut off in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from ledgerq_shared.ids import first_id_at
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array, text_array
from ledgerq_shared.statements.read_replica import THEN

#: Most characters of arguments and results: as much as workers' events tell.
LONGEST = 1024


class FlowerRow(NamedTuple):
    """A task as Flower shows it. Times are seconds since 1970; null where it has not happened."""

    id: str
    #: Celery's own id where it is not ``id``: what workers' events call the task.
    celery_id: str | None
    task_type: str
    state: str
    retries: int
    #: Name of the node that runs or ran the latest attempt.
    worker: str | None
    #: Positional and keyword arguments and the result: the first :data:`LONGEST` characters of their JSON.
    args: str | None
    parameters: str
    result: str | None
    #: JSON ``{type, message, traceback, retryable}``, whole.
    error: str | None
    submitted_at: float
    started_at: float | None
    completed_at: float | None
    run_at: datetime | None
    expires_at: datetime | None


class Shown(NamedTuple):
    """What Flower believes of a task."""

    #: The task's own id or Celery's.
    uuid: str
    #: Celery's word, RECEIVED among them: a worker has it and has not begun.
    state: str
    retries: int


_COLUMNS = f"""t.id::text, t.celery_id, t.task_type, t.state, t.retries, t.worker,
       left(t.args::text, {LONGEST}), left(t.parameters::text, {LONGEST}), left(t.result::text, {LONGEST}), t.error::text,
       extract(epoch FROM t.submitted_at)::float8, extract(epoch FROM t.started_at)::float8,
       extract(epoch FROM t.completed_at)::float8, t.run_at, t.expires_at"""

_NEWEST = f"""
SELECT {THEN}, ARRAY(SELECT id::text FROM task WHERE id >= %(from_id)s::uuid ORDER BY id DESC LIMIT %(limit)s)
"""

_READ = f"SELECT {_COLUMNS} FROM task t WHERE t.id = ANY(%(ids)s::uuid[])"

# Each by its index, whatever the planner thinks of it. The ledger does not know RECEIVED: what a worker has received and
# not begun is PENDING there, or RETRY.
_CHANGED = """
SELECT {columns}
FROM unnest(%(ids)s::{type}[], %(states)s::text[], %(retries)s::integer[]) AS a(id, state, retries)
CROSS JOIN LATERAL (SELECT * FROM task WHERE {found} OFFSET 0) t
WHERE t.retries <> a.retries
   OR t.state <> a.state AND NOT (a.state = 'RECEIVED' AND t.state IN ('PENDING', 'RETRY'))
"""
_CHANGED_BY_ID = _CHANGED.format(columns=_COLUMNS, type="uuid", found="id = a.id")
_CHANGED_BY_CELERY_ID = _CHANGED.format(
    columns=_COLUMNS, type="text", found="celery_id = a.id AND celery_id IS NOT NULL"
)


def newest_ids(*, since: datetime | None, limit: int) -> Statement[tuple[datetime, list[str]]]:
    """One row: the ledger's time, and the ids of the newest tasks, newest first.

    Args:
        since: by their makers' clocks; null: from the beginning.
    """
    from_id = UUID(int=0) if since is None else first_id_at(since)
    return Statement(_NEWEST, {"from_id": str(from_id), "limit": limit})


def read_flower_tasks(ids: Sequence[str]) -> Statement[FlowerRow]:
    """Those of the tasks that exist, in no order."""
    return Statement(_READ, {"ids": plain_array(ids)}, row=FlowerRow._make)


def read_changed(shown: Sequence[Shown], *, by: Literal["id", "celery_id"]) -> Statement[FlowerRow]:
    """Those tasks whose state or number of retries is another one, in no order."""
    ids = [one.uuid for one in shown]
    sql, literal = (_CHANGED_BY_ID, plain_array(ids)) if by == "id" else (_CHANGED_BY_CELERY_ID, text_array(ids))
    states, retries = text_array(one.state for one in shown), plain_array(one.retries for one in shown)
    return Statement(sql, {"ids": literal, "states": states, "retries": retries}, row=FlowerRow._make)
