"""Run a task again because a person asked for it: under its own id, or as a new task like it."""

from __future__ import annotations

from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.pieces import INTO_READY
from ledgerq_shared.statements.times import LATEST
from ledgerq_shared.task_errors import TaskError


def resubmit(task_id: str, *, actor: str, message: str | None = None) -> Statement[tuple[str]]:
    """FAILURE or REVOKED → PENDING, at once. Its queue; no row: the task is in another state, there is none, or its
    message was refused, so that nobody knows its arguments.

    Attempts go on counting and the history stays. Retries and worker deaths are counted anew, because otherwise the
    first error would end the task; a task that has killed workers runs alone. An expiry that has passed is dropped, and
    so is a request to cancel.

    Args:
        actor: the actor for the event log.
        message: the reason, in the caller's words; None: the caller gave none.
    """
    return Statement(_RESUBMIT, {"id": task_id, "actor": actor, "message": message})


#: Of a task: its message was refused. PostgreSQL reads no JSON in which an odd text stands (a NUL, half of a surrogate
#: pair), and users' errors have such texts; the type stands first in every error that we write.
_IS_REFUSED = f"""(starts_with(error::text, '{{"type":"{TaskError.MESSAGE_REFUSED}"') IS TRUE)"""

_RESUBMIT = f"""
WITH found AS MATERIALIZED (
  SELECT id, state AS before, worker_deaths > 0 AS is_suspect FROM task
  WHERE id = %(id)s::uuid AND state IN ('FAILURE', 'REVOKED')
    AND NOT {_IS_REFUSED} FOR UPDATE
), done AS (
  UPDATE task t SET state = 'PENDING', completed_at = NULL, seq = t.seq + 1, run_at = now(), retries = 0,
    noted_at = greatest(clock_timestamp(), {LATEST}),
    worker_deaths = 0, cancel_requested_at = NULL, terminate = false, result = NULL, error = NULL,
    progress = NULL, progress_status = NULL, progress_at = NULL,
    expires_at = CASE WHEN t.expires_at > now() THEN t.expires_at END
  FROM found f WHERE t.id = f.id
  RETURNING t.id, t.seq, t.task_type, t.queue, t.priority, t.attempt, t.run_at, t.noted_at, t.expires_at, f.before,
            f.is_suspect
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
  SELECT id, seq, noted_at, 'resubmitted', attempt, %(actor)s,
         json_build_object('before', before, 'message', %(message)s::text)
  FROM done
), counted AS (
  INSERT INTO task_count (task_type, queue, state, delta)
  SELECT task_type, queue, before, -1 FROM done UNION ALL SELECT task_type, queue, 'PENDING', 1 FROM done
), made_ready AS (
  {INTO_READY}
  SELECT id, queue, priority, run_at, task_type, is_suspect, expires_at FROM done
)
SELECT queue FROM done
"""


class RepeatableTask(NamedTuple):
    """What a rerun takes over from an earlier task. JSON is text."""

    task_type: str
    queue: str
    priority: int
    max_retries: int | None
    time_limit: float | None
    soft_time_limit: float | None
    on_worker_lost: str | None
    args: str | None
    parameters: str
    #: Whether the arguments are in Celery's own JSON: it came as a Celery message.
    is_from_celery: bool
    metadata: str | None
    tags: list[str] | None
    #: Whether its message was refused, so that nobody knows its arguments.
    is_refused: bool


def read_repeatable(task_id: str) -> Statement[RepeatableTask]:
    """No row: there is no such task."""
    return Statement(
        f"""
        SELECT task_type, queue, priority, max_retries, time_limit, soft_time_limit, on_worker_lost, args::text,
               parameters::text, celery IS NOT NULL, metadata::text, tags,
               {_IS_REFUSED}
        FROM task WHERE id = %(id)s::uuid
        """,
        {"id": task_id},
        row=RepeatableTask._make,
    )
