"""Read queues and workers, as people look at them."""

from __future__ import annotations

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.workers import IS_LIVE


def read_queues() -> Statement:
    """Rows ``(name, paused, slots, oldest_ready_seconds)`` of every queue that was ever used, by name.

    ``slots``: of live workers that serve it. ``oldest_ready_seconds``: null if nothing is ready.
    """
    return Statement(
        f"""
        SELECT n.name, coalesce(q.paused, false),
               (SELECT coalesce(sum(w.slots), 0)::integer FROM worker w
                WHERE {IS_LIVE} AND n.name = ANY(w.queues)),
               (SELECT extract(epoch FROM now() - min(r.run_at))::float8
                FROM generate_series(0, 9) AS p(priority), LATERAL (
                  SELECT run_at FROM ready WHERE queue = n.name AND ready.priority = p.priority
                  ORDER BY run_at LIMIT 1) r)
        FROM (SELECT name FROM queue UNION SELECT queue FROM task_count UNION SELECT queue FROM task_type) n
        LEFT JOIN queue q ON q.name = n.name ORDER BY n.name
        """,
        {},
    )


def queue_counts() -> Statement:
    """Rows ``(queue, state, count)`` from the counters."""
    return Statement(
        """
        SELECT queue, state, sum(delta)::bigint FROM task_count GROUP BY queue, state HAVING sum(delta) <> 0
        """,
        {},
    )


def read_live_workers() -> Statement:
    """Rows ``(id, name, host, pid, pool, slots, queues, task_types, started_at, heartbeat_age, stopping)``.

    The live ones, by name; ages in seconds.
    """
    return Statement(
        f"""
        SELECT id::text, name, host, pid, pool, slots, queues, task_types, started_at,
               extract(epoch FROM clock_timestamp() - beat_at)::float8, stopping
        FROM worker WHERE {IS_LIVE} ORDER BY name, id
        """,
        {},
    )


def count_workers() -> Statement:
    """Row ``(known task types, live workers, slots)``."""
    return Statement(
        f"""
        SELECT (SELECT count(*) FROM task_type), count(*), coalesce(sum(slots), 0)::bigint FROM worker WHERE {IS_LIVE}
        """,
        {},
    )


def read_running() -> Statement:
    """Rows ``(worker_id, task_id, task_type, started_at)`` of what is running, oldest first."""
    return Statement(
        """
        SELECT c.worker_id::text, t.id::text, t.task_type, t.started_at
        FROM (SELECT worker_id, unnest(task_ids) AS task_id FROM claim) c
        CROSS JOIN LATERAL (SELECT * FROM task WHERE id = c.task_id AND state = 'STARTED' OFFSET 0) t
        ORDER BY t.started_at
        """,
        {},
    )
