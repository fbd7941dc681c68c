"""Claim ready tasks for a slot. This is the only place where two workers could take the same task, and the statement
prevents it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array, text_array, time_array
from ledgerq_shared.statements.pieces import INTO_READY, RELEASE
from ledgerq_shared.statements.times import PLACE

PRIORITIES = range(9, -1, -1)


class ClaimedTask(NamedTuple):
    """A task as the claim returns it, with everything that a run needs. psycopg2 decodes JSON columns or leaves them as
    text.
    """

    claim_no: int
    id: str
    celery_id: str | None
    task_type: str
    queue: str
    priority: int
    state: str
    attempt: int
    retries: int
    max_retries: int | None
    time_limit: float | None
    soft_time_limit: float | None
    args: str | None
    parameters: str
    celery: str | None
    #: The task must not begin after this time; ``is_expired`` compares it with the database's clock. None: it does not
    #: expire.
    expires_at: datetime | None
    is_expired: bool
    is_cancelled: bool
    #: ``rerun`` or ``fail``, as submitted; None: the task type's value applies.
    on_worker_lost: str | None
    #: A suspect after a worker's death: no other task may run in its process meanwhile.
    is_alone: bool
    #: The task's place in the queue; the low-water mark follows it.
    ready_at: datetime
    #: Where it comes from; see :class:`ledgerq_shared.process.tracing.Origin`.
    trace: str | None = None


def claim_tasks(
    *,
    worker_id: UUID,
    slot: int,
    queue: str,
    limit: int,
    budget: float,
    cost_of_type: Mapping[str, float],
    unknown_cost: float,
    low_water: Mapping[int, datetime],
    unknown_types: Collection[str] = (),
) -> Statement[ClaimedTask]:
    """Claim the next tasks of ``queue``, highest priority first, then oldest.

    If any task is ready, at least one is claimed. Further ones are claimed only while the expected run time of those
    before them stays below ``budget`` seconds, so that no task waits behind a long task while another slot is idle. A
    suspect (``ready.alone``) is claimed by itself. For a paused queue, or a worker that was declared dead, nothing is
    claimed.

    Args:
        limit: how many tasks to claim at most.
        cost_of_type: expected run time of each known task type, in seconds; ``unknown_cost`` for all others.
        low_water: per priority, where to begin to look. While an old transaction is open, deleted entries gather at the
            head of the index; a look that begins where the last claim ended skips them. Leave a priority out to see its
            stragglers (a retry that came due, a clock difference, a slow commit).
        unknown_types: task types that this worker has met and does not know, although another live worker knows them.
    """
    return Statement(
        _CLAIM,
        {
            "worker_id": str(worker_id),
            "slot": slot,
            "queue": queue,
            "limit": limit,
            "budget": budget,
            "unknown_cost": unknown_cost,
            "types": text_array(cost_of_type),
            "costs": plain_array(cost_of_type.values()),
            "priorities": plain_array(PRIORITIES),
            "unknown": text_array(unknown_types),
            "floors": time_array(low_water.get(priority) for priority in PRIORITIES),
        },
        "claim_tasks",
        row=ClaimedTask._make,
    )


_CLAIM = """
WITH picked AS MATERIALIZED (
  SELECT r.* FROM unnest(%(priorities)s::smallint[], %(floors)s::timestamptz[]) AS m(priority, floor),
  LATERAL (
    SELECT task_id, task_type, priority, run_at, alone FROM ready
    WHERE queue = %(queue)s::text AND priority = m.priority AND run_at >= m.floor
      AND task_type <> ALL (%(unknown)s::text[])
    ORDER BY run_at, task_id LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED
  ) r
  WHERE EXISTS (SELECT FROM worker WHERE id = %(worker_id)s::uuid AND ended_at IS NULL)
    AND NOT EXISTS (SELECT FROM queue WHERE name = %(queue)s AND paused)
  LIMIT %(limit)s::integer
), costed AS (
  SELECT p.*, CASE WHEN p.alone THEN 1e9 ELSE coalesce(c.cost, %(unknown_cost)s::float8) END AS cost
  FROM picked p LEFT JOIN unnest(%(types)s::text[], %(costs)s::float8[]) AS c(task_type, cost) USING (task_type)
), ranked AS (
  SELECT task_id, alone, row_number() OVER o AS n, sum(cost) OVER o - cost AS before FROM costed
  WINDOW o AS (ORDER BY priority DESC, run_at, task_id ROWS UNBOUNDED PRECEDING)
), taken AS (
  -- Through an array: for a sub-select the planner expects half of the table and scans all of `ready` and `task`.
  DELETE FROM ready WHERE task_id = ANY (ARRAY(
    SELECT task_id FROM ranked WHERE n = 1 OR (before < %(budget)s::float8 AND NOT alone)))
  RETURNING task_id, priority, run_at, alone
), made AS (
  INSERT INTO claim (worker_id, slot, queue, claimed_at, task_ids, alone)
  SELECT %(worker_id)s::uuid, %(slot)s::integer, %(queue)s::text, clock_timestamp(), array_agg(task_id), bool_or(alone)
  FROM taken
  HAVING count(*) > 0
  RETURNING no
)
SELECT made.no, t.id, t.celery_id, t.task_type, t.queue, t.priority, t.state, t.attempt, t.retries, t.max_retries,
       t.time_limit, t.soft_time_limit, t.args::text, t.parameters::text, t.celery::text, t.expires_at,
       coalesce(t.expires_at <= now(), false), t.cancel_requested_at IS NOT NULL,
       t.on_worker_lost, taken.alone, taken.run_at, t.trace
FROM made, taken JOIN task t ON t.id = taken.task_id
ORDER BY taken.priority DESC, taken.run_at, t.id
"""


def has_ready(queue: str, *, unknown_types: Collection[str] = ()) -> Statement[tuple[bool]]:
    """Returns whether any task of the queue is ready, apart from unknown types.

    A drain asks this if it found nothing to claim: another claim may hold the locks of more entries than it will take.
    """
    return Statement(
        """SELECT EXISTS (SELECT FROM ready WHERE queue = %(queue)s::text AND task_type <> ALL (%(unknown)s::text[]))
           AND NOT EXISTS (SELECT FROM queue WHERE name = %(queue)s AND paused)""",
        {"queue": queue, "unknown": text_array(unknown_types)},
        "has_ready",
    )


def hand_back(claims: Mapping[str, int], *, reason: str | None = None) -> Statement[tuple[str, str, bool]]:
    """Hand back claimed tasks that have not begun, uncharged and with their old place in the queue.

    Returns for each task its id, its queue, and whether its cancellation was requested. The caller must revoke those in
    the same transaction (:func:`~ledgerq_shared.statements.cancel.revoke_waiting`).

    Args:
        claims: task id → number of the claim that holds it. A task that its claim no longer holds is not touched.
        reason: ``no_worker``: put those that no live worker of their queue knows into ``held`` instead of ``ready``.
    """
    params: dict[str, Any] = {
        "id": plain_array(claims),
        "no": plain_array(claims.values()),
        "nos": plain_array(sorted(set(claims.values()))),
        "reason": reason,
    }
    return Statement(_HAND_BACK, params)


# Its guard is not that of `record`: it needs ``alone`` and ``cancelled`` of a claim, which no other statement needs, and
# needs no worker's name.
_HAND_BACK = f"""
WITH input AS (SELECT * FROM unnest(%(id)s::uuid[], %(no)s::bigint[]) AS i(id, no)),
owner AS MATERIALIZED (
  SELECT no, task_ids, alone, cancelled FROM claim WHERE no = ANY(%(nos)s::bigint[]) ORDER BY no FOR UPDATE
),
valid AS MATERIALIZED (
  -- Of a cancel that this statement has waited for, only the claim tells: it is locked, the task is as it was before.
  SELECT i.id, i.no, h.alone, i.id = ANY (h.cancelled) AS is_cancelled FROM input i
  JOIN (SELECT no, unnest(task_ids) AS id, alone, cancelled FROM owner) h ON h.no = i.no AND h.id = i.id
), returned AS MATERIALIZED (
  SELECT t.*, v.alone OR t.worker_deaths > 0 AS alone, v.is_cancelled OR t.cancel_requested_at IS NOT NULL AS is_cancelled,
         coalesce(%(reason)s::text = 'no_worker' AND NOT EXISTS (
           SELECT FROM worker w WHERE w.ended_at IS NULL AND t.task_type = ANY (w.task_types)
             AND t.queue = ANY (w.queues)), false) AS is_held
  FROM valid v JOIN task t ON t.id = v.id
), {RELEASE}, made_ready AS (
  {INTO_READY}
  SELECT t.id, t.queue, t.priority, {PLACE}, t.task_type, t.alone, t.expires_at
  FROM returned t WHERE NOT t.is_held
), made_held AS (
  INSERT INTO held (task_id, queue, priority, task_type, reason, alone, expires_at)
  SELECT t.id, t.queue, t.priority, t.task_type, %(reason)s::text, t.alone, t.expires_at
  FROM returned t WHERE t.is_held
)
SELECT id, queue, is_cancelled FROM returned
"""
