"""Read single tasks: status, everything, history.

JSON columns are read as text: a task's result goes to the client byte for byte, and nothing in it (a lone surrogate, an
integer of a thousand digits) can break the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from ledgerq_shared.events import EventKind, StoredEvent
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array, text_array


class StatusRow(NamedTuple):
    """What a status answer needs from a task. The fields are those of table ``task``; JSON is text."""

    id: str
    task_type: str
    state: str
    queue: str
    submitted_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    run_at: datetime | None
    seq: int
    attempt: int
    max_retries: int | None
    worker: str | None
    cancel_requested_at: datetime | None
    progress: float | None
    progress_status: str | None
    progress_at: datetime | None
    result: str | None
    error: str | None


class DetailRow(NamedTuple):
    """What an answer with all details needs in addition to :class:`StatusRow`."""

    celery_id: str | None
    priority: int
    expires_at: datetime | None
    retries: int
    worker_deaths: int
    time_limit: float | None
    soft_time_limit: float | None
    on_worker_lost: str | None
    terminate: bool
    args: str | None
    parameters: str
    metadata: str | None
    tags: list[str] | None
    rerun_of: str | None
    unique_key: str | None
    #: Where it comes from: :class:`ledgerq_shared.process.tracing.Origin` as text.
    trace: str | None
    #: The tasks that repeat it, newest first, at most :data:`MOST_RERUNS`.
    reruns: list[str]


_STATUS_FIELDS = len(StatusRow._fields)

#: How many reruns of a task are listed with it.
MOST_RERUNS = 100

_STATUS = """id::text, task_type, state, queue, submitted_at, started_at, completed_at, run_at, seq,
       attempt, max_retries, worker, cancel_requested_at, progress, progress_status, progress_at,
       result::text, error::text"""

_DETAIL = f"""celery_id, priority, expires_at, retries, worker_deaths, time_limit, soft_time_limit,
       on_worker_lost, terminate, args::text, parameters::text, metadata::text, tags, rerun_of::text,
       unique_key, trace,
       ARRAY(SELECT r.id::text FROM task r WHERE r.rerun_of = task.id ORDER BY r.id DESC LIMIT {MOST_RERUNS})"""


def read_statuses(ids: Iterable[str]) -> Statement[StatusRow]:
    """Those of the tasks that exist, in no order."""
    return Statement(
        f"SELECT {_STATUS} FROM task WHERE id = ANY(%(ids)s::uuid[])",
        {"ids": plain_array(ids)},
        "read_statuses",
        StatusRow._make,
    )


def read_statuses_by_celery_id(celery_ids: Iterable[str]) -> Statement[tuple[str, StatusRow]]:
    """The tasks that were adopted under these ids, each with its Celery id."""
    return Statement(
        f"SELECT celery_id, {_STATUS} FROM task WHERE celery_id = ANY(%(ids)s::text[]) AND celery_id IS NOT NULL",
        {"ids": text_array(celery_ids)},
        row=lambda row: (row[0], StatusRow._make(row[1:])),
    )


def find_task(*, task_id: str | None, celery_id: str) -> Statement[tuple[str]]:
    """The task's own id; none if there is no such task.

    Args:
        task_id: None if the given id is not a UUID.
        celery_id: looked up if no task has ``task_id`` as its own id.
    """
    return Statement(
        """
        SELECT id::text FROM (
          SELECT id, 1 AS n FROM task WHERE id = %(task_id)s::uuid
          UNION ALL SELECT id, 2 FROM task WHERE celery_id = %(celery_id)s AND celery_id IS NOT NULL
        ) AS found ORDER BY n LIMIT 1
        """,
        {"task_id": task_id, "celery_id": celery_id},
    )


def read_task(task_id: str) -> Statement[tuple[StatusRow, DetailRow]]:
    """One row; none if there is no such task."""
    return Statement(
        f"SELECT {_STATUS}, {_DETAIL} FROM task WHERE id = %(id)s::uuid",
        {"id": task_id},
        row=lambda row: (StatusRow._make(row[:_STATUS_FIELDS]), DetailRow._make(row[_STATUS_FIELDS:])),
    )


#: Kinds of event that begin or end an attempt: the list of a task's attempts is made from these.
ATTEMPT_KINDS = (
    EventKind.STARTED, EventKind.SUCCEEDED, EventKind.FAILED, EventKind.RETRIED, EventKind.REPLACED, EventKind.REVOKED,
    EventKind.RECOVERED,
)  # fmt: skip


def read_events(
    task_id: str,
    *,
    submitted_at: datetime,
    after: int,
    limit: int,
    kinds: Iterable[EventKind] | None = None,
    most_bytes: int | None = None,
    with_data: bool = True,
) -> Statement[StoredEvent]:
    """Stored events of a task with a ``seq`` above ``after``, in order; ``data`` as text.

    Args:
        submitted_at: the time of the task's submission. No event of the task is older, and none is in the future, so
            other partitions are not read (some days are allowed for a database clock that was set back).
        limit: how many stored rows to read at most; each may stand for up to three events.
        kinds: only these.
        most_bytes: if the rows' ``data`` exceed this, one more row follows and no further one; None: there is no bound.
        with_data: False: ``data`` is None in all rows, so that the rows are small.
    """
    data = "data" if with_data else "NULL::json AS data"
    read: Statement[StoredEvent] = Statement(
        f"""
        SELECT seq, at, kind, attempt, actor, claimed_at, started_at, data::text FROM (
          SELECT found.*, sum(octet_length(data::text)) OVER (
            ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS bytes
          FROM (
            SELECT seq, at, kind, attempt, actor, claimed_at, started_at, {data} FROM task_event
            WHERE task_id = %(id)s::uuid AND seq > %(after)s::integer
              AND at >= %(since)s::timestamptz - interval '1 day' AND at < now() + interval '8 days'
              AND (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s::text[])) ORDER BY seq LIMIT %(limit)s::integer
          ) AS found
        ) AS sized
        WHERE %(most_bytes)s::bigint IS NULL OR coalesce(bytes, 0) <= %(most_bytes)s::bigint ORDER BY seq
        """,
        {
            "id": task_id,
            "after": after,
            "since": submitted_at.isoformat(),
            "limit": limit,
            "kinds": None if kinds is None else plain_array(kinds),
            "most_bytes": most_bytes,
        },
        "read_events",
        StoredEvent._make,
    )
    # A name stands for only one text, because sessions keep it prepared.
    return read if with_data else read._replace(name=None)
