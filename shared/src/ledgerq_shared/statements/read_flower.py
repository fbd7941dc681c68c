"""Read tasks for Flower's pages: the newest ones, and those whose state is no longer the one that Flower shows.

All reads use the primary key (or Celery's id) of a bounded number of tasks; PostgreSQL cuts long values off.
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

#: How many characters of arguments and results are read: as many as workers' events have.
LONGEST = 1024


class FlowerRow(NamedTuple):
    """A task as Flower shows it. Times are seconds since 1970; None if it has not happened."""

    id: str
    #: Celery's own id, if it is not ``id``: workers' events use it for the task.
    celery_id: str | None
    task_type: str
    state: str
    retries: int
    #: How many attempts were begun.
    attempts: int
    #: The latest progress in per cent, with what the task said, and when that was.
    progress: float | None
    progress_status: str | None
    progress_at: float | None
    #: The name of the node that runs or ran the latest attempt.
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
    """What Flower shows about a task."""

    #: The task's own id or Celery's.
    uuid: str
    #: Celery's word. RECEIVED means that a worker has the task and has not begun it.
    state: str
    retries: int
    #: -1: unknown.
    attempts: int
    #: When the progress that is shown was reported; None: none is.
    progress_at: float | None


_PROGRESS_AT = "extract(epoch FROM t.progress_at)::float8"
_COLUMNS = f"""t.id::text, t.celery_id, t.task_type, t.state, t.retries, t.attempt,
       t.progress::float8, left(t.progress_status, {LONGEST}), {_PROGRESS_AT}, t.worker,
       left(t.args::text, {LONGEST}), left(t.parameters::text, {LONGEST}), left(t.result::text, {LONGEST}), t.error::text,
       extract(epoch FROM t.submitted_at)::float8, extract(epoch FROM t.started_at)::float8,
       extract(epoch FROM t.completed_at)::float8, t.run_at, t.expires_at"""

_NEWEST = f"""
SELECT {THEN}, ARRAY(SELECT id::text FROM task WHERE id >= %(from_id)s::uuid ORDER BY id DESC LIMIT %(limit)s)
"""

_READ = f"SELECT {_COLUMNS} FROM task t WHERE t.id = ANY(%(ids)s::uuid[])"

#: What is compared to know whether a task has changed: how each field of :class:`Shown` but the id stands in the
#: ledger, and its type. The ledger has no state RECEIVED: a task that a worker has received and not begun is PENDING
#: there, or RETRY.
_COMPARED = {
    "state": (
        "text",
        "CASE WHEN a.state = 'RECEIVED' AND t.state IN ('PENDING', 'RETRY') THEN a.state ELSE t.state END",
    ),
    "retries": ("integer", "t.retries"),
    "attempts": ("integer", "t.attempt"),
    "progress_at": ("float8", _PROGRESS_AT),
}


def _changed(found: str, id_type: str) -> str:
    """Each task is found by an index, whatever the planner's estimate is."""
    arrays = "".join(f", %({name})s::{kind}[]" for name, (kind, _) in _COMPARED.items())
    return f"""
SELECT {_COLUMNS}
FROM unnest(%(ids)s::{id_type}[]{arrays}) AS a(id, {", ".join(_COMPARED)})
CROSS JOIN LATERAL (SELECT * FROM task WHERE {found} OFFSET 0) t
WHERE ({", ".join(now for _, now in _COMPARED.values())}) IS DISTINCT FROM ({", ".join(f"a.{name}" for name in _COMPARED)})
"""


_CHANGED_BY_ID = _changed("id = a.id", "uuid")
_CHANGED_BY_CELERY_ID = _changed("celery_id = a.id AND celery_id IS NOT NULL", "text")


def newest_ids(*, since: datetime | None, limit: int) -> Statement[tuple[datetime, list[str]]]:
    """One row: the ledger's time, and the ids of the newest tasks, newest first.

    Args:
        since: by the clocks that made the ids; None: from the beginning.
    """
    from_id = UUID(int=0) if since is None else first_id_at(since)
    return Statement(_NEWEST, {"from_id": str(from_id), "limit": limit})


def read_flower_tasks(ids: Sequence[str]) -> Statement[FlowerRow]:
    """Those of the tasks that exist, in no order."""
    return Statement(_READ, {"ids": plain_array(ids)}, row=FlowerRow._make)


def read_changed(shown: Sequence[Shown], *, by: Literal["id", "celery_id"]) -> Statement[FlowerRow]:
    """Those tasks that are no longer as they are shown, in no order."""
    ids = [one.uuid for one in shown]
    sql, literal = (_CHANGED_BY_ID, plain_array(ids)) if by == "id" else (_CHANGED_BY_CELERY_ID, text_array(ids))
    parameters = {"ids": literal}
    for name, (kind, _) in _COMPARED.items():
        array = text_array if kind == "text" else plain_array
        parameters[name] = array(getattr(one, name) for one in shown)
    return Statement(sql, parameters, row=FlowerRow._make)
