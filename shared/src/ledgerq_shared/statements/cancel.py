"""Cancel tasks: a cancel is a fact in the ledger, wherever the task is at the moment.

An unfinished task is in ``ready``, in ``held`` or on a claim's list. A waiting task is taken out and ends at once. For
a task on a claim the request is recorded, and the worker that holds the task honours it. Both statements lock in the
usual order: ready or held row, claim row, task row. A task may move from one place to another between two looks, so a
caller that finds it in neither place looks again with new statements in the same transaction
(``ledgerq_shared.tasks.cancelling``).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array
from ledgerq_shared.statements.pieces import COUNTED, FOUND, FREED, TOLD
from ledgerq_shared.statements.times import LATEST


def revoke_waiting(
    task_ids: Collection[str], *, actor: str, message: str | None = None, terminate: bool = False
) -> Statement[tuple[str]]:
    """End those of the tasks that wait (``ready``, ``held``) as REVOKED, reason ``cancelled``; returns their ids.

    Args:
        actor: the actor for the event log.
        message: the reason, in the caller's words; None: the caller gave none.
        terminate: recorded in the task as requested; a waiting task has no process to kill.
    """
    params = {"ids": plain_array(task_ids), "actor": actor, "message": message, "terminate": terminate}
    return Statement(_REVOKE_WAITING, params)


_REVOKE_WAITING = f"""
WITH unready AS (
  DELETE FROM ready WHERE task_id = ANY (%(ids)s::uuid[]) RETURNING task_id
), unheld AS (
  DELETE FROM held WHERE task_id = ANY (%(ids)s::uuid[]) RETURNING task_id
), {FOUND}, done AS (
  UPDATE task t SET state = 'REVOKED', completed_at = greatest(clock_timestamp(), {LATEST}), seq = t.seq + 1,
    cancel_requested_at = coalesce(t.cancel_requested_at, clock_timestamp()), terminate = t.terminate OR %(terminate)s
  FROM found f WHERE t.id = f.id
  RETURNING t.id, t.seq, t.completed_at, t.task_type, t.queue, t.state, t.attempt, t.unique_key,
            f.before
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
  SELECT id, seq, completed_at, 'revoked', attempt, %(actor)s,
         json_build_object('reason', 'cancelled', 'message', %(message)s::text)
  FROM done
), {COUNTED}, {TOLD}, {FREED}
SELECT id FROM done
"""


def request_cancel(
    task_id: str, *, actor: str, message: str | None = None, terminate: bool = False, signal: int | None = None
) -> Statement[tuple[str, bool]]:
    """Ask the worker that holds a task to end it. Returns the task's present state and ``terminate``; no row: no claim
    holds it.

    A second request changes nothing and leaves no second event, unless it allows termination and the first did not.

    Args:
        terminate: whether the process that runs it may be killed.
        signal: the signal with which the task is asked before that; None: it is not asked.
    """
    params = {"id": task_id, "actor": actor, "message": message, "terminate": terminate, "signal": signal}
    return Statement(_REQUEST_CANCEL, params)


_REQUEST_CANCEL = f"""
WITH holder AS MATERIALIZED (
  SELECT no FROM claim WHERE task_ids @> ARRAY[%(id)s::uuid] FOR UPDATE
), found AS MATERIALIZED (
  SELECT t.id, t.state, h.no, t.terminate OR %(terminate)s AS terminate,
         t.cancel_requested_at IS NULL OR (%(terminate)s AND NOT t.terminate) AS is_news
  FROM holder h JOIN task t ON t.id = %(id)s::uuid FOR UPDATE OF t
), noted AS (
  UPDATE claim c SET cancelled = c.cancelled || f.id FROM found f WHERE c.no = f.no AND NOT c.cancelled @> ARRAY[f.id]
), done AS (
  UPDATE task t SET cancel_requested_at = coalesce(t.cancel_requested_at, clock_timestamp()), terminate = f.terminate,
    noted_at = greatest(clock_timestamp(), {LATEST}), seq = t.seq + 1
  FROM found f WHERE t.id = f.id AND f.is_news
  RETURNING t.id, t.seq, t.noted_at, t.attempt, t.terminate
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
  SELECT id, seq, noted_at, 'cancel_requested', attempt, %(actor)s,
         CASE WHEN %(signal)s::integer IS NULL
              THEN json_build_object('message', %(message)s::text, 'terminate', terminate)
              ELSE json_build_object('message', %(message)s::text, 'terminate', terminate, 'signal', %(signal)s::integer) END
  FROM done
)
SELECT state, terminate FROM found
"""


def read_told(task_id: str, *, since: datetime | None) -> Statement[tuple[str, bool, bool, datetime]]:
    """The present outcome for a claimed task whose cancellation was requested; a caller asks again until the outcome is
    known.

    Returns its state; whether it has ended; whether the node that holds it has renewed its lease after ``since``, and
    with the answer has learned which tasks it must not begin; and the time of the database's clock. No row: there is no
    such task.

    Args:
        since: the clock of an earlier answer; None: this is the first question.
    """
    return Statement(
        """
        SELECT t.state, t.completed_at IS NOT NULL, EXISTS (
                 SELECT FROM claim c JOIN worker w ON w.id = c.worker_id
                 WHERE c.task_ids @> ARRAY[t.id] AND w.beat_at > %(since)s::timestamptz),
               clock_timestamp()
        FROM task t WHERE t.id = %(id)s::uuid
        """,
        {"id": task_id, "since": since},
    )


class TaskEnd(NamedTuple):
    """Whether a task has ended."""

    state: str
    is_final: bool
    #: Whether its cancellation was requested.
    is_cancelled: bool


def read_end(task_id: str) -> Statement[TaskEnd]:
    """No row: there is no such task."""
    return Statement(
        """
        SELECT state, completed_at IS NOT NULL, cancel_requested_at IS NOT NULL FROM task WHERE id = %(id)s::uuid
        """,
        {"id": task_id},
        row=TaskEnd._make,
    )


class CancelRequest(NamedTuple):
    """A task whose cancellation was requested, under the claim that holds it."""

    claim_no: int
    task_id: str
    #: Whether the process that runs it may be killed.
    terminate: bool


def find_cancel_requests(*, worker_id: UUID) -> Statement[CancelRequest]:
    """Returns the tasks that a worker holds and that somebody asked to end."""
    return Statement(
        """
        SELECT c.no, x.id::text, t.terminate FROM claim c CROSS JOIN unnest(c.cancelled) AS x(id)
        CROSS JOIN LATERAL (SELECT terminate FROM task WHERE id = x.id OFFSET 0) t
        WHERE c.worker_id = %(id)s::uuid AND x.id = ANY (c.task_ids)
        """,
        {"id": str(worker_id)},
        "find_cancel_requests",
        row=CancelRequest._make,
    )


def read_signals(task_ids: Collection[str]) -> Statement[tuple[str, int]]:
    """Returns those of the tasks whose latest cancellation asked for a signal first, with its number."""
    return Statement(
        """
        SELECT t.id::text, e.signal FROM task t CROSS JOIN LATERAL (
          SELECT (data->>'signal')::integer AS signal FROM task_event
          WHERE task_id = t.id AND at >= t.cancel_requested_at AND kind = 'cancel_requested' ORDER BY seq DESC LIMIT 1
        ) e WHERE t.id = ANY (%(ids)s::uuid[]) AND e.signal IS NOT NULL
        """,
        {"ids": plain_array(task_ids)},
    )
