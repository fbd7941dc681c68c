"""Read what the monitor exports. Each statement costs the same with ten million tasks as with ten thousand: tasks are
counted by the counters, entries of ``ready``, ``held`` and ``outbox`` up to a limit.
"""

from __future__ import annotations

from collections.abc import Collection

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.read_replica import THEN, WAS_LIVE

#: Entries of one queue in ``ready`` are counted up to here; beyond it the counters know, minus what waits or is held.
COUNTED_UP_TO = 10_000

#: Entries of ``held``, ``outbox`` and such are counted up to here, all together.
LOOKED_AT = 100_000


def count_tasks() -> Statement:
    """Rows ``(task_type, queue, state, count)``, also of counts that are 0 again."""
    return Statement("SELECT task_type, queue, state, sum(delta)::bigint FROM task_count GROUP BY 1, 2, 3", {})


def read_queue_gauges() -> Statement:
    """Rows ``(queue, paused, slots, ready, oldest_ready_seconds, claimed, oldest_claim_seconds)`` of every queue.

    ``slots``: of live workers that serve it; not of those whose lease is over and whom nobody has declared dead, for
    nobody may be there to do so. Ages are 0 where there is nothing.
    """
    return Statement(_QUEUES, {"limit": COUNTED_UP_TO})


_QUEUES = f"""
WITH waiting AS MATERIALIZED (
  SELECT queue, sum(delta)::bigint AS n FROM task_count WHERE state IN ('PENDING', 'RETRY', 'STARTED') GROUP BY queue
), name AS (
  SELECT name FROM queue UNION SELECT queue FROM task_count
), claimed AS MATERIALIZED (
  SELECT queue, sum(cardinality(task_ids))::bigint AS n, extract(epoch FROM {THEN} - min(claimed_at)) AS age
  FROM claim GROUP BY queue
)
SELECT n.name, coalesce(q.paused, false),
       (SELECT coalesce(sum(w.slots), 0) FROM worker w
        WHERE {WAS_LIVE} AND NOT w.stopping AND n.name = ANY (w.queues))::integer,
       CASE WHEN r.n < %(limit)s THEN r.n ELSE greatest(r.n, coalesce(waiting.n, 0) - coalesce(c.n, 0)
         - (SELECT count(*) FROM (SELECT FROM held h WHERE h.queue = n.name LIMIT 100000) h)) END::bigint,
       greatest(coalesce(extract(epoch FROM {THEN} - head.run_at), 0), 0)::float8,
       coalesce(c.n, 0)::bigint, greatest(coalesce(c.age, 0), 0)::float8
FROM name n
LEFT JOIN queue q ON q.name = n.name
LEFT JOIN waiting ON waiting.queue = n.name
LEFT JOIN claimed c ON c.queue = n.name
CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT FROM ready WHERE queue = n.name LIMIT %(limit)s) f) r
LEFT JOIN LATERAL (
  SELECT min(o.run_at) AS run_at FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
    SELECT run_at FROM ready WHERE queue = n.name AND ready.priority = p.priority ORDER BY run_at LIMIT 1) o
) head ON true
"""


def count_held() -> Statement:
    """Rows ``(queue, reason, count)`` of what waits for something else than a worker, of the first :data:`LOOKED_AT`."""
    return Statement(
        "SELECT queue, reason, count(*) FROM (SELECT queue, reason FROM held LIMIT %(limit)s) h GROUP BY 1, 2",
        {"limit": LOOKED_AT},
    )


def read_dispatch() -> Statement:
    """Row ``(due, due_seconds, outbox, outbox_seconds, leader_seconds)``.

    What has come due and maintenance has not promoted, and for how long; what waits in the outbox; for how long the
    leader's lease still holds (0: nobody leads).
    """
    return Statement(
        """
        SELECT (SELECT count(*) FROM (SELECT FROM held WHERE until <= now() LIMIT %(limit)s) h),
               greatest(coalesce(extract(epoch FROM clock_timestamp() - (SELECT min(until) FROM held)), 0), 0)::float8,
               (SELECT count(*) FROM (SELECT FROM outbox LIMIT %(limit)s) o),
               greatest(coalesce(extract(epoch FROM clock_timestamp() - (
                 SELECT created_at FROM outbox ORDER BY id LIMIT 1)), 0), 0)::float8,
               greatest(coalesce(extract(epoch FROM (
                 SELECT until FROM leader WHERE name = 'maintenance') - clock_timestamp()), 0), 0)::float8
        """,
        {"limit": LOOKED_AT},
    )


def read_worker_gauges(*, limit: int) -> Statement:
    """Rows ``(name, slots, busy_slots, heartbeat_age, lease_seconds, stopping)`` of workers that have not ended, by name.

    ``lease_seconds`` is negative where the lease is over and nobody has declared the worker dead yet.
    """
    return Statement(
        """
        SELECT w.name, w.slots, (SELECT count(DISTINCT c.slot) FROM claim c WHERE c.worker_id = w.id)::integer,
               extract(epoch FROM clock_timestamp() - w.beat_at)::float8,
               extract(epoch FROM w.lease_until - clock_timestamp())::float8, w.stopping
        FROM worker w WHERE w.ended_at IS NULL ORDER BY w.name, w.id LIMIT %(limit)s
        """,
        {"limit": limit},
    )


def count_ended_workers() -> Statement:
    """Rows ``(why, count)`` of workers that ended and are not forgotten yet (a day later they are)."""
    return Statement("SELECT ended_why, count(*) FROM worker WHERE ended_at IS NOT NULL GROUP BY 1", {})


def count_stuck(*, after: float) -> Statement:
    """Row ``(tasks, seconds)``: tasks in the hands of workers that are dead or were not heard of for ``after`` seconds
    beyond their lease, and for how long the first of these workers has been so. Recovery should have taken them back.
    """
    return Statement(
        """
        SELECT coalesce(sum(cardinality(c.task_ids)), 0)::bigint,
               coalesce(max(extract(epoch FROM clock_timestamp() - coalesce(w.ended_at, w.lease_until, c.claimed_at))), 0)
                 ::float8
        FROM claim c LEFT JOIN worker w ON w.id = c.worker_id
        WHERE coalesce(w.ended_at, w.lease_until, c.claimed_at) < now() - %(after)s * interval '1 second'
        """,
        {"after": after},
    )


def count_worker_deaths() -> Statement:
    """Row ``(charged, quarantined)``: unfinished tasks that were running when a worker died, and tasks that ended as
    `TaskQuarantined`, of those still in the ledger. An index knows the few tasks that any worker died with.

    The error is looked at as it is written: of one with a NUL or half of a surrogate pair, PostgreSQL cannot take a part.
    """
    return Statement(
        r"""
        SELECT count(*) FILTER (WHERE completed_at IS NULL),
               count(*) FILTER (WHERE state = 'FAILURE' AND error::text ~ '^\s*\{\s*"type"\s*:\s*"TaskQuarantined"')
        FROM (SELECT completed_at, state, error FROM task WHERE worker_deaths > 0 LIMIT %(limit)s) t
        """,
        {"limit": LOOKED_AT},
    )


#: What :func:`read_tables` and :func:`read_server` ask PostgreSQL's own functions and views for.
TABLE_FIGURES = ("table_bytes",)
SERVER_FIGURES = {
    "database_bytes": "pg_database_size(current_database())::bigint",
    "connections": "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())",
    "max_connections": "current_setting('max_connections')::integer",
    "oldest_transaction_seconds": """
      (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
       FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())""",
    "frozen_age": "(SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database())::bigint",
    "wal_bytes": "CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') END::float8",
    "wal_retained_bytes": """
      (SELECT coalesce(max(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                                ELSE pg_current_wal_lsn() END, restart_lsn)), 0)::float8
       FROM pg_replication_slots)""",
    "went_back": "(SELECT count(*) FROM went_back WHERE noticed_at > now() - interval '1 day')",
}


def read_tables(without: Collection[str] = ()) -> Statement:
    """Rows ``(table, bytes, live_rows, dead_rows)``; the event log's partitions count as one. Rows: PostgreSQL's guess.

    Args:
        without: of :data:`TABLE_FIGURES`, what is null.
    """
    size = "NULL" if "table_bytes" in without else "sum(pg_total_relation_size(relid))"
    return Statement(
        rf"""
        SELECT CASE WHEN relname LIKE 'task\_event\_%%' THEN 'task_event' ELSE relname END,
               {size}::bigint, sum(n_live_tup)::bigint, sum(n_dead_tup)::bigint
        FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname <> 'task_event' GROUP BY 1
        """,
        {},
    )


def read_server(without: Collection[str] = ()) -> Statement:
    """One row with :data:`SERVER_FIGURES`.

    ``wal_bytes``: written since the server was made; null on a standby. ``wal_retained_bytes``: kept for the slowest
    replication slot. ``went_back``: how often the ledger was found to have gone back in time, of a day. Without the role
    ``pg_read_all_stats`` only this role's own transactions are seen.

    Args:
        without: what is null.
    """
    figures = [f"{'NULL' if name in without else sql} AS {name}" for name, sql in SERVER_FIGURES.items()]
    return Statement(f"SELECT {', '.join(figures)}", {})
