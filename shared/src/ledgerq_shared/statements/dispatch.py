"""What maintenance does with waiting tasks: promote what came due, expire what came too late, see what needs a ticket."""

from __future__ import annotations

from collections.abc import Collection

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array
from ledgerq_shared.statements.pieces import COUNTED, FOUND, FREED, TOLD
from ledgerq_shared.statements.times import LATEST, PLACE

#: The held task ``h`` is known to the worker ``w``, which came not long ago. Who held it for want of a worker may not have
#: seen the other register, nor the other have seen it held: both look at what is committed, and neither waits.
_IS_KNOWN = """
  w.ended_at IS NULL AND w.started_at > now() - interval '1 minute'
  AND h.reason = 'no_worker' AND h.task_type = ANY (w.task_types) AND h.queue = ANY (w.queues)"""


#: Only these tasks, where some are named.
_OF_THESE = "(%(tasks)s::uuid[] IS NULL OR {column} = ANY (%(tasks)s::uuid[]))"


def promote_due(*, limit: int, tasks: Collection[str] | None = None) -> Statement:
    """Make ready what has waited long enough, the longest overdue first, and what was held for want of a worker that has
    come just then. Rows: ``(queue,)``, one per task.

    Args:
        tasks: of these, only these tasks; null: all.
    """
    is_meant = _OF_THESE.format(column="task_id")
    return Statement(
        f"""
        WITH due AS (
          DELETE FROM held WHERE task_id = ANY (ARRAY(
            SELECT task_id FROM held WHERE until <= now() AND {is_meant}
            ORDER BY until LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
          RETURNING *
        ), known AS (
          DELETE FROM held WHERE task_id = ANY (ARRAY(
            SELECT task_id FROM worker w, held h WHERE {_IS_KNOWN} AND {is_meant}
            LIMIT %(limit)s FOR UPDATE OF h SKIP LOCKED))
          RETURNING *
        )
        INSERT INTO ready (task_id, queue, priority, run_at, task_type, alone, expires_at)
        SELECT task_id, queue, priority, until, task_type, alone, expires_at FROM due
        UNION ALL
        SELECT t.id, t.queue, t.priority, {PLACE}, t.task_type, known.alone, t.expires_at
        FROM known JOIN task t ON t.id = known.task_id
        RETURNING queue
        """,
        {"limit": limit, "tasks": None if tasks is None else plain_array(tasks)},
    )


def find_due(*, limit: int) -> Statement:
    """Rows ``(id,)``: what :func:`promote_due` would make ready."""
    return Statement(
        f"""
        (SELECT task_id::text FROM held WHERE until <= now() ORDER BY until LIMIT %(limit)s)
        UNION (SELECT h.task_id::text FROM worker w, held h WHERE {_IS_KNOWN} LIMIT %(limit)s)
        """,
        {"limit": limit},
    )


def next_due(*, but_for: Collection[str] = ()) -> Statement:
    """Row ``(seconds,)``: until the next held task is due, below 0 if one is overdue; null if none waits for a time.

    Args:
        but_for: tasks that do not count.
    """
    return Statement(
        "SELECT extract(epoch FROM min(until) - clock_timestamp())::float8 FROM held WHERE task_id <> ALL (%(but)s::uuid[])",
        {"but": plain_array(but_for)},
    )


def expire(*, limit: int, tasks: Collection[str] | None = None) -> Statement:
    """End what was not begun before its expiry as REVOKED, reason ``expired``. Rows: ``(id,)``. What somebody has locked is
    left for the next time, so that it holds up no other.

    Args:
        tasks: of these, only these tasks; null: all.
    """
    is_meant = _OF_THESE.format(column="task_id")
    return Statement(
        f"""
        WITH late AS (
          SELECT task_id FROM ready WHERE expires_at <= now() AND {is_meant}
          UNION ALL SELECT task_id FROM held WHERE expires_at <= now() AND {is_meant} LIMIT %(limit)s
        ), free AS MATERIALIZED (
          SELECT id FROM task WHERE id = ANY (ARRAY(SELECT task_id FROM late)) FOR UPDATE SKIP LOCKED
        ), unready AS (
          DELETE FROM ready WHERE task_id = ANY (ARRAY(
            SELECT task_id FROM ready WHERE task_id = ANY (ARRAY(SELECT id FROM free)) FOR UPDATE SKIP LOCKED))
          RETURNING task_id
        ), unheld AS (
          DELETE FROM held WHERE task_id = ANY (ARRAY(
            SELECT task_id FROM held WHERE task_id = ANY (ARRAY(SELECT id FROM free)) FOR UPDATE SKIP LOCKED))
          RETURNING task_id
        ), {FOUND}, done AS (
          UPDATE task t SET state = 'REVOKED', completed_at = greatest(clock_timestamp(), {LATEST}), seq = t.seq + 1
          FROM found f WHERE t.id = f.id AND t.completed_at IS NULL
          RETURNING t.id, t.seq, t.completed_at, t.task_type, t.queue, t.state, t.attempt, t.unique_key,
                    f.before
        ), logged AS (
          INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
          SELECT id, seq, completed_at, 'revoked', attempt, 'maintenance', json_build_object('reason', 'expired')
          FROM done
        ), {COUNTED}, {TOLD}, {FREED}
        SELECT id FROM done
        """,
        {"limit": limit, "tasks": None if tasks is None else plain_array(tasks)},
    )


def find_expired(*, limit: int) -> Statement:
    """Rows ``(id,)``: what :func:`expire` would end."""
    return Statement(
        """
        SELECT task_id::text FROM ready WHERE expires_at <= now()
        UNION ALL SELECT task_id::text FROM held WHERE expires_at <= now() LIMIT %(limit)s
        """,
        {"limit": limit},
    )


#: What maintenance looks for every moment, in the order in which :func:`what_to_do` tells of it.
DUTIES = ("wake", "promote", "expire", "outbox")


def what_to_do(*, ahead: float) -> Statement:
    """One row with a boolean (or null: no) for each of `DUTIES`: whether it may find something; ``promote``: something is
    due within ``ahead`` seconds.

    Asked twice a second for ever, so it is small, and planned once. Asks for the first in an index instead of whether there
    is one: what was deleted, or a million tasks, cost no more than one, also while PostgreSQL has no statistics of them and
    takes a third of them for past.
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
    )


def count_ready(*, up_to: int) -> Statement:
    """Rows ``(queue, ready)``: each queue that live workers serve, is not paused and has ready tasks, and how many of them
    (counted up to ``up_to``).

    Goes by who serves, for anybody may submit to as many queues as there are names. A worker that comes wakes its own.
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


def slots_by_queue() -> Statement:
    """Rows ``(queue, slots, old_slots)``: slots of live workers per queue that any of them serves; ``old_slots`` are those
    of nodes that take no tickets from ticket lists (releases before migration 0011).
    """
    return Statement(
        """
        SELECT q, coalesce(sum(slots) FILTER (WHERE ticket_lists), 0)::integer,
               coalesce(sum(slots) FILTER (WHERE NOT ticket_lists), 0)::integer
        FROM worker w CROSS JOIN unnest(w.queues) AS q
        WHERE w.ended_at IS NULL AND NOT w.stopping GROUP BY q
        """,
        {},
    )


def fold_counts(*, at_least: int, at_most: int = 50_000) -> Statement:
    """Replace the deltas of ``task_count`` by their sums once there are ``at_least`` rows. Row ``(rows,)``: how many of them
    were replaced.

    Readers see either all of the old rows or all of the new ones. Deltas that commit meanwhile are not touched, nor are
    sums that stand alone.

    Args:
        at_most: rows to replace at once.
    """
    return Statement(
        """
        WITH enough AS (SELECT FROM (SELECT FROM task_count LIMIT %(n)s) AS found HAVING count(*) >= %(n)s),
        several AS MATERIALIZED (
          SELECT task_type, queue, state FROM task_count WHERE EXISTS (SELECT FROM enough)
          GROUP BY task_type, queue, state HAVING count(*) > 1
        ), old AS (
          DELETE FROM task_count WHERE ctid = ANY (ARRAY(
            SELECT c.ctid FROM task_count c JOIN several USING (task_type, queue, state) LIMIT %(most)s))
          RETURNING *
        ), new AS (
          INSERT INTO task_count (task_type, queue, state, delta)
          SELECT task_type, queue, state, sum(delta) FROM old GROUP BY task_type, queue, state HAVING sum(delta) <> 0
        )
        SELECT count(*) FROM old
        """,
        {"n": at_least, "most": at_most},
    )
