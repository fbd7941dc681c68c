"""Read the load of a queue, to decide how many workers there should be."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import text_array
from ledgerq_shared.statements.workers import IS_LIVE

#: The backlog is counted up to this number; beyond it the counters are used, minus tasks that wait for a time or that
#: workers hold.
COUNTED_UP_TO = 10_000

#: How many tasks are read for their run times: of the last ones that were claimed, and of the last ones that were
#: submitted.
_SAMPLE = 100


class QueueLoad(NamedTuple):
    """The load of a queue."""

    queue: str
    is_paused: bool
    #: Tasks that may run now and wait for a worker.
    backlog: int
    #: Tasks that workers hold, and the slots that hold them.
    running: int
    busy_slots: int
    #: How long the oldest of the backlog has been waiting, in seconds; 0 if there is none.
    oldest_seconds: float
    #: The mean run time of recent tasks in seconds, including those that are still running; None: none has run.
    run_seconds: float | None
    #: Slots of live workers that serve the queue.
    live_slots: int
    #: Slots of the latest worker that served it; None: none did within a day.
    slots_per_worker: int | None


def read_load(queues: Collection[str]) -> Statement[QueueLoad]:
    """One row for each of ``queues``, used or not.

    It costs the same with a million waiting tasks. The tasks that ran lately are found right before the oldest waiting
    task, because ids are in the order of submission, and tasks are mostly claimed in that order.
    """
    return Statement(
        _LOAD, {"queues": text_array(queues), "limit": COUNTED_UP_TO, "sample": _SAMPLE}, row=QueueLoad._make
    )


_LOAD = f"""
WITH wanted AS MATERIALIZED (SELECT DISTINCT unnest(%(queues)s::text[]) COLLATE "C" AS queue)
SELECT w.queue, coalesce((SELECT q.paused FROM queue q WHERE q.name = w.queue), false),
       CASE WHEN r.n < %(limit)s THEN r.n ELSE greatest(%(limit)s,
         (SELECT coalesce(sum(delta), 0) FROM task_count c
          WHERE c.queue = w.queue AND c.state IN ('PENDING', 'RETRY', 'STARTED'))
         - (SELECT count(*) FROM held h WHERE h.queue = w.queue) - k.running) END::bigint,
       k.running, k.slots, coalesce(extract(epoch FROM clock_timestamp() - head.run_at), 0)::float8, s.seconds,
       (SELECT coalesce(sum(n.slots), 0) FROM worker n
        WHERE {IS_LIVE} AND NOT n.stopping AND w.queue = ANY (n.queues))::integer,
       (SELECT n.slots FROM worker n WHERE w.queue = ANY (n.queues)
        ORDER BY n.ended_at IS NULL DESC, n.started_at DESC LIMIT 1)
FROM wanted w
CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT FROM ready WHERE queue = w.queue LIMIT %(limit)s) f) r
CROSS JOIN LATERAL (
  SELECT coalesce(sum(cardinality(c.task_ids)), 0)::bigint AS running, count(*)::integer AS slots
  FROM claim c WHERE c.queue = w.queue
) k
LEFT JOIN LATERAL (
  SELECT o.* FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
    SELECT run_at, task_id FROM ready WHERE queue = w.queue AND ready.priority = p.priority
    ORDER BY run_at, task_id LIMIT 1) o
  ORDER BY o.run_at LIMIT 1
) head ON true
CROSS JOIN LATERAL (
  SELECT avg(greatest(extract(epoch FROM coalesce(t.completed_at, clock_timestamp()) - t.started_at), 0))::float8
         AS seconds
  FROM (
    (SELECT started_at, completed_at, state FROM task
     WHERE queue = w.queue AND id < coalesce(head.task_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
     ORDER BY id DESC LIMIT %(sample)s)
    UNION ALL
    (SELECT started_at, completed_at, state FROM task WHERE queue = w.queue ORDER BY id DESC LIMIT %(sample)s)
  ) t WHERE t.started_at IS NOT NULL AND t.state IN ('STARTED', 'SUCCESS', 'FAILURE')
) s
"""
