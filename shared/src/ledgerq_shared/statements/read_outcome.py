"""Read a task's end, for what has to be sent about it after the commit."""

from __future__ import annotations

from datetime import datetime
from signal import SIGKILL
from typing import Any, NamedTuple

from ledgerq_shared.sql import Statement


class StoredOutcome(NamedTuple):
    """How a task ended, and with what it ran. ``args``, ``parameters``, ``celery`` and ``result`` are JSON texts,
    ``error`` is decoded.
    """

    id: str
    celery_id: str | None
    task_type: str
    queue: str
    priority: int
    attempt: int
    retries: int
    time_limit: float | None
    soft_time_limit: float | None
    expires_at: datetime | None
    #: The node that ran it last; None: none has.
    worker: str | None
    args: str | None
    parameters: str
    state: str
    result: str | None
    error: dict[str, Any] | None
    celery: str | None
    #: Why it was revoked (``expired``, ``cancelled``); None otherwise.
    reason: str | None
    #: The signal that ended it, if it was terminated.
    signal: int | None
    #: The hard time limit that ended it, in seconds; None: none did.
    hard_limit: float | None


def read_outcome(task_id: str) -> Statement[StoredOutcome]:
    """One row of a task that has ended; none if it has not (or no longer) ended."""
    return Statement(
        f"""
        SELECT t.id, t.celery_id, t.task_type, t.queue, t.priority, t.attempt, t.retries, t.time_limit,
               t.soft_time_limit, t.expires_at, t.worker, t.args::text, t.parameters::text, t.state, t.result::text,
               t.error, t.celery::text, e.data->>'reason',
               CASE WHEN e.data->>'terminated' = 'true' THEN coalesce((e.data->>'signal')::integer, {SIGKILL:d}) END,
               CASE WHEN e.data->>'limit' = 'hard' THEN (e.data->>'seconds')::float8 END
        FROM task t LEFT JOIN LATERAL (
          SELECT data FROM task_event e WHERE e.task_id = t.id AND e.at >= t.completed_at AND e.kind IN ('revoked', 'failed')
          ORDER BY e.seq DESC LIMIT 1
        ) e ON true WHERE t.id = %(id)s::uuid AND t.completed_at IS NOT NULL
        """,
        {"id": task_id},
        row=StoredOutcome._make,
    )
