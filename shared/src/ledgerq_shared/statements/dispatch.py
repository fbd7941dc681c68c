"""What maintenance does with waiting tasks: it promotes tasks that are due, and finds queues that need a ticket and
whatever else there is to do.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array
from ledgerq_shared.statements.pieces import INTO_READY, OF_THESE
from ledgerq_shared.statements.times import PLACE

#: The worker ``w``, which registered not long ago, knows the held task ``h``. The process that held the task because no
#: worker knew it may not have seen the registration, and the worker may not have seen that the task was held: both see
#: only committed rows, and neither waits for the other.
_IS_KNOWN = """
  w.ended_at IS NULL AND w.started_at > now() - interval '1 minute'
  AND h.reason = 'no_worker' AND h.task_type = ANY (w.task_types) AND h.queue = ANY (w.queues)"""


def promote_due(*, limit: int, tasks: Collection[str] | None = None) -> Statement[tuple[str]]:
    """Make tasks ready that have waited long enough, the longest overdue first, and tasks that were held for want of a
    worker that has just registered. Returns the queue of each task.

    Args:
        tasks: only these of the tasks; None: all.
    """
    return Statement(_PROMOTE_DUE, {"limit": limit, "tasks": None if tasks is None else plain_array(tasks)})


_PROMOTE_DUE = f"""
WITH due AS (
  DELETE FROM held WHERE task_id = ANY (ARRAY(
    SELECT task_id FROM held WHERE until <= now() AND {OF_THESE}
    ORDER BY until LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
  RETURNING *
), known AS (
  DELETE FROM held WHERE task_id = ANY (ARRAY(
    SELECT task_id FROM worker w, held h WHERE {_IS_KNOWN} AND {OF_THESE}
    LIMIT %(limit)s FOR UPDATE OF h SKIP LOCKED))
  RETURNING *
)
{INTO_READY}
SELECT task_id, queue, priority, until, task_type, alone, expires_at FROM due
UNION ALL
SELECT t.id, t.queue, t.priority, {PLACE}, t.task_type, known.alone, t.expires_at
FROM known JOIN task t ON t.id = known.task_id
RETURNING queue
"""


def find_due(*, limit: int) -> Statement[tuple[str]]:
    """Returns the ids of the tasks that :func:`promote_due` would make ready."""
    return Statement(
        f"""
        (SELECT task_id::text FROM held WHERE until <= now() ORDER BY until LIMIT %(limit)s)
        UNION (SELECT h.task_id::text FROM worker w, held h WHERE {_IS_KNOWN} LIMIT %(limit)s)
        """,
        {"limit": limit},
    )


def next_due(*, but_for: Collection[str] = ()) -> Statement[tuple[float | None]]:
    """Returns in how many seconds the next held task is due, below 0 if one is overdue; None: no task waits for a time.

    Args:
        but_for: tasks that are not considered.
    """
    return Statement(
        "SELECT extract(epoch FROM min(until) - clock_timestamp())::float8 FROM held WHERE task_id <> ALL (%(but)s::uuid[])",
        {"but": plain_array(but_for)},
    )


class ToDo(NamedTuple):
    """What maintenance looks for all the time: for each duty, whether it may find something to do. None means no."""

    wake: bool | None
    #: Whether a task is due within the given seconds.
    promote: bool | None
    expire: bool | None
    outbox: bool | None


def what_to_do(*, ahead: float) -> Statement[ToDo]:
    """One row; ``promote`` looks ``ahead`` seconds ahead.

    It is asked twice a second for ever, so it is small and planned once. It reads the first entry of an index instead
    of asking whether one exists: so deleted entries, or a million tasks, cost no more than one, even while PostgreSQL
    has no statistics and assumes that a third of them are past.
    """
    return Statement(
        f"""
        SELECT (SELECT queue FROM ready ORDER BY queue LIMIT 1) IS NOT NULL,
               (SELECT min(until) FROM held) <= now() + %(ahead)s::float8 * interval '1 second'
               OR EXISTS (SELECT FROM worker w, held h WHERE {_IS_KNOWN}),
               least((SELECT min(expires_at) FROM ready), (SELECT min(expires_at) FROM held)) <= now(),
               EXISTS (SELECT FROM outbox)
        """,
        {"ahead": ahead},
        "what_to_do",
        row=ToDo._make,
    )


def count_ready_by_queue(*, up_to: int) -> Statement[tuple[str, int]]:
    """Returns each queue that live workers serve, that is not paused and that has ready tasks, with their number
    (counted up to ``up_to``).

    It starts from the queues that workers serve, because callers may submit to any number of queue names. A worker that
    registers wakes its own slots.
    """
    return Statement(
        """
        SELECT s.queue, r.ready
        FROM (SELECT DISTINCT q AS queue FROM worker w, unnest(w.queues) AS q
              WHERE w.ended_at IS NULL AND NOT w.stopping) AS s
        CROSS JOIN LATERAL (
          SELECT count(*) AS ready FROM (SELECT FROM ready WHERE ready.queue = s.queue LIMIT %(limit)s) AS found) AS r
        WHERE r.ready > 0 AND NOT EXISTS (SELECT FROM queue WHERE queue.name = s.queue AND queue.paused)
        """,
        {"limit": up_to},
    )


class QueueSlots(NamedTuple):
    """Slots of the live workers that serve a queue."""

    queue: str
    slots: int
    #: Slots of nodes that take no tickets from ticket lists (releases before migration 0011).
    old_slots: int


def slots_by_queue() -> Statement[QueueSlots]:
    """Each queue that a live worker serves."""
    return Statement(
        """
        SELECT q, coalesce(sum(slots) FILTER (WHERE ticket_lists), 0)::integer,
               coalesce(sum(slots) FILTER (WHERE NOT ticket_lists), 0)::integer
        FROM worker w CROSS JOIN unnest(w.queues) AS q
        WHERE w.ended_at IS NULL AND NOT w.stopping GROUP BY q
        """,
        {},
        row=QueueSlots._make,
    )
