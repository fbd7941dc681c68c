"""Read what the monitor exports. Each statement costs the same with ten million tasks as with ten thousand: tasks are
counted by the counters, entries of ``ready``, ``held`` and ``outbox`` up to a limit.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.read_replica import THEN, WAS_LIVE

#: The entries of one queue in ``ready`` are counted up to this number; beyond it the counters are used, minus the tasks
#: that are held or claimed.
_READY_COUNTED_UP_TO = 10_000

#: The entries of ``held``, ``outbox`` and similar tables are counted up to this number, all together.
LOOKED_AT = 100_000


class TaskCount(NamedTuple):
    """How many tasks of a type and queue are in a state."""

    task_type: str
    queue: str
    state: str
    tasks: int


class QueueGauges(NamedTuple):
    """The state of a queue. Ages are in seconds; 0 if there is nothing."""

    queue: str
    is_paused: bool
    #: The slots of live workers that serve it. Workers whose lease is over do not count, even if nobody has declared
    #: them dead, because no maintenance may be running.
    slots: int
    ready: int
    oldest_ready_seconds: float
    #: Tasks that workers hold.
    claimed: int
    oldest_claim_seconds: float


class DispatchGauges(NamedTuple):
    """The state of maintenance. Ages are in seconds; 0 if there is nothing."""

    #: How many due tasks maintenance has not promoted, and for how long.
    due: int
    due_seconds: float
    #: How many entries wait in the outbox.
    outbox: int
    outbox_seconds: float
    #: For how many seconds the leader's lease still lasts; 0: nobody leads.
    leader_seconds: float


class WorkerGauges(NamedTuple):
    """A worker that has not ended."""

    name: str
    slots: int
    #: How many of its slots hold tasks.
    busy_slots: int
    #: In seconds.
    heartbeat_age: float
    #: For how long its lease still lasts; negative: it is over, and nobody has declared the worker dead yet.
    lease_seconds: float
    is_stopping: bool


class TableGauges(NamedTuple):
    """A table and its indexes; the event log's partitions count as one. The number of rows is PostgreSQL's estimate."""

    table: str
    #: Its size; None: PostgreSQL does not tell.
    table_bytes: int | None
    live_rows: int
    dead_rows: int


class ServerGauges(NamedTuple):
    """The server and the database as a whole. What PostgreSQL does not tell is None."""

    database_bytes: int | None
    #: Connections to this database, and how many the server allows in all.
    connections: int | None
    max_connections: int | None
    #: Age of the oldest open transaction; without the role ``pg_read_all_stats`` only this role's own are seen.
    oldest_transaction_seconds: float | None
    #: Transactions since the oldest row that is not frozen.
    frozen_age: int | None
    #: Bytes of WAL written since the server was created; also None on a standby.
    wal_bytes: float | None
    #: Bytes of WAL that are kept for the slowest replication slot.
    wal_retained_bytes: float | None
    #: How many times within a day the ledger was found to have gone back in time.
    went_back: int | None


def read_task_counts() -> Statement[TaskCount]:
    """The counts of all types, queues and states, including those that are 0 again."""
    return Statement(
        "SELECT task_type, queue, state, sum(delta)::bigint FROM task_count GROUP BY 1, 2, 3", {}, row=TaskCount._make
    )


def read_queue_gauges() -> Statement[QueueGauges]:
    """Every queue that was ever used."""
    return Statement(_QUEUES, {"limit": _READY_COUNTED_UP_TO}, row=QueueGauges._make)


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


def count_held() -> Statement[tuple[str, str, int]]:
    """How many tasks wait for something other than a worker, by queue and reason; among the first :data:`LOOKED_AT`."""
    return Statement(
        "SELECT queue, reason, count(*) FROM (SELECT queue, reason FROM held LIMIT %(limit)s) h GROUP BY 1, 2",
        {"limit": LOOKED_AT},
    )


def read_dispatch() -> Statement[DispatchGauges]:
    """One row, counted up to :data:`LOOKED_AT`."""
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
        row=DispatchGauges._make,
    )


def read_worker_gauges(*, limit: int) -> Statement[WorkerGauges]:
    """The workers that have not ended, by name."""
    return Statement(
        """
        SELECT w.name, w.slots, (SELECT count(DISTINCT c.slot) FROM claim c WHERE c.worker_id = w.id)::integer,
               extract(epoch FROM clock_timestamp() - w.beat_at)::float8,
               extract(epoch FROM w.lease_until - clock_timestamp())::float8, w.stopping
        FROM worker w WHERE w.ended_at IS NULL ORDER BY w.name, w.id LIMIT %(limit)s
        """,
        {"limit": limit},
        row=WorkerGauges._make,
    )


def count_ended_workers() -> Statement[tuple[str, int]]:
    """How many workers have ended, by the reason; they are forgotten after a day."""
    return Statement("SELECT ended_why, count(*) FROM worker WHERE ended_at IS NOT NULL GROUP BY 1", {})


def count_stuck(*, after: float) -> Statement[tuple[int, float]]:
    """How many tasks are held by workers that are dead or whose lease ended more than ``after`` seconds ago, and for
    how many seconds this has been so for the first of these workers. Recovery should have taken these tasks back.
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


def count_worker_deaths() -> Statement[tuple[int, int]]:
    """How many unfinished tasks were running when a worker died, and how many tasks ended as `TaskQuarantined`, among
    those still in the ledger. An index has the few tasks with which any worker died.

    The error is compared as text: if it has a NUL or half of a surrogate pair, PostgreSQL cannot extract a part of it.
    """
    return Statement(
        r"""
        SELECT count(*) FILTER (WHERE completed_at IS NULL),
               count(*) FILTER (WHERE state = 'FAILURE' AND error::text ~ '^\s*\{\s*"type"\s*:\s*"TaskQuarantined"')
        FROM (SELECT completed_at, state, error FROM task WHERE worker_deaths > 0 LIMIT %(limit)s) t
        """,
        {"limit": LOOKED_AT},
    )


#: The figures that :func:`read_tables` and :func:`read_server` read from PostgreSQL's own functions and views.
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


def read_tables(without: Collection[str] = ()) -> Statement[TableGauges]:
    """All tables.

    Args:
        without: of :data:`TABLE_FIGURES`, what is None.
    """
    size = "NULL" if "table_bytes" in without else "sum(pg_total_relation_size(relid))"
    return Statement(
        rf"""
        SELECT CASE WHEN relname LIKE 'task\_event\_%%' THEN 'task_event' ELSE relname END,
               {size}::bigint, sum(n_live_tup)::bigint, sum(n_dead_tup)::bigint
        FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname <> 'task_event' GROUP BY 1
        """,
        {},
        row=TableGauges._make,
    )


def read_server(without: Collection[str] = ()) -> Statement[ServerGauges]:
    """One row.

    Args:
        without: of :data:`SERVER_FIGURES`, what is None.
    """
    figures = [f"{'NULL' if name in without else SERVER_FIGURES[name]} AS {name}" for name in ServerGauges._fields]
    return Statement(f"SELECT {', '.join(figures)}", {}, row=ServerGauges._make)
