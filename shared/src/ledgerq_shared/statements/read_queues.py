"""Read queues and workers in the form that people look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import text_array
from ledgerq_shared.statements.read_replica import THEN, WAS_LIVE
from ledgerq_shared.statements.workers import IS_LIVE

#: A sub-select: every queue that was ever used.
_NAMES = "(SELECT name FROM queue UNION SELECT queue FROM task_count UNION SELECT queue FROM task_type)"


class QueueRow(NamedTuple):
    """A queue in the form that people look at."""

    name: str
    is_paused: bool
    #: Slots of live workers that serve it.
    slots: int
    #: None: nothing is ready.
    oldest_ready_seconds: float | None


class LiveWorker(NamedTuple):
    """A worker whose lease holds."""

    id: str
    name: str
    host: str
    pid: int
    pool: str
    slots: int
    queues: list[str]
    task_types: list[str]
    started_at: datetime
    #: In seconds.
    heartbeat_age: float
    is_stopping: bool


class Running(NamedTuple):
    """A task whose code runs."""

    worker_id: str
    task_id: str
    task_type: str
    started_at: datetime


class Overview(NamedTuple):
    """The state of the ledger."""

    #: How many task types are registered.
    task_types: int
    #: How many workers are live, and their slots.
    workers: int
    slots: int
    #: Whether a COMMIT has waited for a synchronous standby for more than two seconds.
    do_writes_wait: bool
    #: When the ledger was last found to have gone back in time; None: never.
    went_back_at: datetime | None


def count_queues() -> Statement[tuple[int]]:
    """How many queues were ever used."""
    return Statement(f"SELECT count(*) FROM {_NAMES} n", {})


def read_queues(*, after: str, limit: int) -> Statement[QueueRow]:
    """The first queues whose names come after ``after``, by name."""
    return Statement(
        f"""
        SELECT n.name, coalesce(q.paused, false),
               (SELECT coalesce(sum(w.slots), 0)::integer FROM worker w
                WHERE {WAS_LIVE} AND n.name = ANY(w.queues)),
               (SELECT extract(epoch FROM {THEN} - min(r.run_at))::float8
                FROM generate_series(0, 9) AS p(priority), LATERAL (
                  SELECT run_at FROM ready WHERE queue = n.name AND ready.priority = p.priority
                  ORDER BY run_at LIMIT 1) r)
        FROM (SELECT name FROM {_NAMES} n WHERE name > %(after)s ORDER BY name LIMIT %(limit)s) n
        LEFT JOIN queue q ON q.name = n.name ORDER BY n.name
        """,
        {"after": after, "limit": limit},
        row=QueueRow._make,
    )


def queue_counts(queues: Sequence[str]) -> Statement[tuple[str, str, int]]:
    """How many tasks of these queues are in a state, by queue and state; from the counters."""
    return Statement(
        """
        SELECT queue, state, sum(delta)::bigint FROM task_count
        WHERE queue IN (SELECT unnest(%(queue)s::text[])) GROUP BY queue, state HAVING sum(delta) <> 0
        """,
        {"queue": text_array(queues)},
    )


def read_live_workers() -> Statement[LiveWorker]:
    """The live workers, by name."""
    return Statement(
        f"""
        SELECT id::text, name, host, pid, pool, slots, queues, task_types, started_at,
               extract(epoch FROM {THEN} - beat_at)::float8, stopping
        FROM worker WHERE {WAS_LIVE} ORDER BY name, id
        """,
        {},
        row=LiveWorker._make,
    )


def read_overview() -> Statement[Overview]:
    """One row."""
    return Statement(
        f"""
        SELECT (SELECT count(*) FROM task_type), count(*), coalesce(sum(slots), 0)::bigint, EXISTS (
          SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'
            AND state_change < clock_timestamp() - interval '2 seconds'),
          (SELECT max(noticed_at) FROM went_back)
        FROM worker WHERE {IS_LIVE}
        """,
        {},
        row=Overview._make,
    )


def read_clock() -> Statement[tuple[float]]:
    """The time in the ledger, in seconds since 1970."""
    return Statement("SELECT extract(epoch FROM clock_timestamp())::float8", {})


def read_all_running() -> Statement[Running]:
    """The running tasks, oldest first."""
    return Statement(
        """
        SELECT c.worker_id::text, t.id::text, t.task_type, t.started_at
        FROM (SELECT worker_id, unnest(task_ids) AS task_id FROM claim) c
        CROSS JOIN LATERAL (SELECT * FROM task WHERE id = c.task_id AND state = 'STARTED' OFFSET 0) t
        ORDER BY t.started_at
        """,
        {},
        row=Running._make,
    )
