"""Read what keeps a task from running, in one snapshot."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.workers import IS_LIVE

#: The tasks ahead of a task are counted no further than this.
AHEAD_UP_TO = 10_000


class Circumstances(NamedTuple):
    """Where a task is, and its circumstances. An unfinished task is in exactly one of ready, held and a claim."""

    state: str
    queue: str
    task_type: str
    now: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    #: The error of a failure; None: there is none. It is decoded here and not by SQL, because PostgreSQL's text cannot
    #: hold everything that it may contain (a NUL, half of a surrogate pair).
    error: dict[str, Any] | None
    #: None: the task is not in ``ready``. True: it was running when a worker died, and is claimed by itself.
    ready_alone: bool | None
    #: How many ready tasks are before it, counted up to :data:`AHEAD_UP_TO` + 1; None: it is not ready.
    ahead: int | None
    #: Why it is held; None: it is not in ``held``.
    held_reason: str | None
    held_until: datetime | None
    #: The name of the worker whose claim has it; None: no claim has it.
    worker: str | None
    claimed_at: datetime | None
    #: Whether that worker's lease is over.
    is_worker_silent: bool | None
    is_paused: bool
    #: Live workers that serve its queue, their slots, and how many of these slots hold tasks.
    workers: int
    slots: int
    busy: int
    #: Those of the live workers that also know its type.
    able: int
    has_leader: bool


def read_circumstances(task_id: str) -> Statement[Circumstances]:
    """One row; none if there is no such task."""
    return Statement(_CIRCUMSTANCES, {"id": task_id, "up_to": AHEAD_UP_TO + 1}, row=Circumstances._make)


_CIRCUMSTANCES = f"""
SELECT t.state, t.queue, t.task_type, now(), t.started_at, t.completed_at, t.expires_at, t.cancel_requested_at,
       t.error, r.alone,
       CASE WHEN r.task_id IS NOT NULL THEN (
         SELECT count(*) FROM (
           SELECT FROM generate_series(r.priority, 9) AS p(priority) CROSS JOIN LATERAL (
             SELECT FROM ready o WHERE o.queue = r.queue AND o.priority = p.priority
               AND (p.priority > r.priority OR (o.run_at, o.task_id) < (r.run_at, r.task_id)) LIMIT %(up_to)s) o
           LIMIT %(up_to)s) AS before) END,
       h.reason, h.until, c.worker, c.claimed_at, c.is_silent,
       EXISTS (SELECT FROM queue q WHERE q.name = t.queue AND q.paused),
       w.workers, w.slots,
       (SELECT count(DISTINCT (b.worker_id, b.slot)) FROM claim b JOIN worker v ON v.id = b.worker_id
        WHERE {IS_LIVE} AND t.queue = ANY (v.queues)),
       w.able, EXISTS (SELECT FROM leader WHERE name = 'maintenance' AND until > now())
FROM task t
LEFT JOIN ready r ON r.task_id = t.id
LEFT JOIN held h ON h.task_id = t.id
LEFT JOIN LATERAL (
  SELECT v.name AS worker, o.claimed_at, v.ended_at IS NOT NULL OR v.lease_until < now() AS is_silent
  FROM claim o JOIN worker v ON v.id = o.worker_id WHERE o.task_ids @> ARRAY[t.id] LIMIT 1
) c ON t.completed_at IS NULL
CROSS JOIN LATERAL (
  SELECT count(*) AS workers, coalesce(sum(v.slots), 0)::integer AS slots,
         count(*) FILTER (WHERE t.task_type = ANY (v.task_types)) AS able
  FROM worker v WHERE {IS_LIVE} AND NOT v.stopping AND t.queue = ANY (v.queues)
) w
WHERE t.id = %(id)s::uuid
"""
