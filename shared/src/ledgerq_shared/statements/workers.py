"""Worker nodes: register, renew the lease, end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Nothing, Statement
from ledgerq_shared.statements.arrays import text_array
from ledgerq_shared.statements.pieces import INTO_READY
from ledgerq_shared.statements.times import PLACE

#: Condition on a row of ``worker``: it is live. Only its lease counts, because without maintenance nobody declares a
#: worker dead whose lease is over.
IS_LIVE = "ended_at IS NULL AND lease_until > now()"

#: Condition on a row of ``worker`` that has not ended: its lease is over, or it was renewed more than a lease in the
#: future. In the second case the database's clock was set back since then, and a live worker would have renewed its
#: lease anew. (This uses the clock and not ``now()``, so that a renewal that commits while this runs is not in the
#: future.)
_IS_OVER = "(lease_until < now() OR beat_at - (lease_until - beat_at) > clock_timestamp())"


def register_worker(
    *,
    worker_id: UUID,
    name: str,
    host: str,
    pid: int,
    pool: str,
    slots: int,
    queues: Sequence[str],
    task_types: Sequence[str],
    lease: float,
    acknowledged: Sequence[str] = (),
) -> Statement[tuple[str]]:
    """Register a worker node, with a lease of ``lease`` seconds. Tasks that waited for one of its task types become
    ready; returns the queue of each.

    Args:
        acknowledged: those task types that must not run a second time if a task came as a Celery message.
    """
    return Statement(
        _REGISTER_WORKER,
        {
            "id": str(worker_id),
            "name": name,
            "host": host,
            "pid": pid,
            "pool": pool,
            "slots": slots,
            "queues": text_array(queues),
            "task_types": text_array(task_types),
            "lease": lease,
            "acknowledged": text_array(acknowledged),
        },
    )


_REGISTER_WORKER = f"""
WITH made AS (
  INSERT INTO worker (id, name, host, pid, pool, slots, queues, task_types, acknowledged, ticket_lists,
                      started_at, beat_at, lease_until)
  VALUES (%(id)s::uuid, %(name)s, %(host)s, %(pid)s, %(pool)s, %(slots)s, %(queues)s::text[],
          %(task_types)s::text[], %(acknowledged)s::text[], true, now(), now(), now() + %(lease)s * interval '1 second')
), known AS (
  INSERT INTO queue (name)
  SELECT name FROM unnest(%(queues)s::text[]) AS q(name) ORDER BY name COLLATE "C" ON CONFLICT DO NOTHING
), freed AS (
  DELETE FROM held WHERE reason = 'no_worker' AND task_type = ANY(%(task_types)s::text[])
    AND queue = ANY(%(queues)s::text[])
  RETURNING task_id, alone
)
{INTO_READY}
SELECT t.id, t.queue, t.priority, {PLACE}, t.task_type, freed.alone, t.expires_at
FROM freed JOIN task t ON t.id = freed.task_id RETURNING queue
"""


def renew_lease(*, worker_id: UUID, lease: float, stopping: bool) -> Statement[tuple[bool, bool]]:
    """Renew a worker's lease. It touches only the worker's own row, and does not wait if another transaction has locked
    that row.

    Returns whether the lease was renewed, and whether the worker is registered. If neither, the worker was declared
    dead; then its claims are void, and it must register anew. Not renewed but registered: another transaction has
    locked its row just now.
    """
    return Statement(_RENEW_LEASE, {"id": str(worker_id), "lease": lease, "stopping": stopping}, "renew_lease")


_RENEW_LEASE = """
WITH free AS MATERIALIZED (
  SELECT id FROM worker WHERE id = %(id)s::uuid AND ended_at IS NULL FOR NO KEY UPDATE SKIP LOCKED
), beat AS (
  UPDATE worker w SET beat_at = now(), lease_until = now() + %(lease)s::float8 * interval '1 second',
                      stopping = %(stopping)s::boolean
  FROM free WHERE w.id = free.id RETURNING w.id
)
SELECT EXISTS (SELECT FROM beat), EXISTS (SELECT FROM worker WHERE id = %(id)s::uuid AND ended_at IS NULL)
"""


def is_known(worker_id: UUID) -> Statement[tuple[bool]]:
    """Whether there is a worker of this id, ended or not."""
    return Statement("SELECT EXISTS (SELECT FROM worker WHERE id = %(id)s::uuid)", {"id": str(worker_id)})


def do_writes_wait() -> Statement[tuple[bool]]:
    """Whether a COMMIT waits for a synchronous standby at this moment."""
    return Statement(
        """
        SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep')
        """,
        {},
    )


def end_worker(*, worker_id: UUID, why: str) -> Statement[tuple[str]]:
    """Record that a worker has stopped (``stopped``) or died (``lost``), for its own node. Returns its id; no row: it
    had ended before.
    """
    return Statement(_END_WORKER, {"id": str(worker_id), "why": why})


_END_WORKER = """
UPDATE worker SET ended_at = now(), ended_why = %(why)s WHERE id = %(id)s::uuid AND ended_at IS NULL
RETURNING id
"""


def declare_dead(*, worker_id: UUID, lease_until: datetime) -> Statement[tuple[str]]:
    """Record that a worker is ``lost``, for a process other than its own node. Returns its id, also if it had ended
    before; no row: it has renewed its lease since. Then it is alive, even if that lease is over by now, because it is
    not known what kept it from the next renewal.

    Args:
        lease_until: the value that :func:`find_lost_workers` has returned.
    """
    return Statement(_DECLARE_DEAD, {"id": str(worker_id), "until": lease_until})


_DECLARE_DEAD = """
UPDATE worker SET ended_at = coalesce(ended_at, now()), ended_why = coalesce(ended_why, 'lost')
WHERE id = %(id)s::uuid AND (ended_at IS NOT NULL OR lease_until = %(until)s::timestamptz) RETURNING id
"""


class LostWorker(NamedTuple):
    """A worker whose claims are to be taken back."""

    id: str
    name: str
    lease_until: datetime


def find_lost_workers() -> Statement[LostWorker]:
    """Returns workers whose lease has run out, and workers that have ended but of which a claim became visible only
    after that.
    """
    return Statement(
        f"""
        SELECT id, name, lease_until FROM worker WHERE ended_at IS NULL AND {_IS_OVER}
        UNION SELECT w.id, w.name, w.lease_until FROM claim c JOIN worker w ON w.id = c.worker_id
        WHERE w.ended_at IS NOT NULL
        """,
        {},
        row=LostWorker._make,
    )


def prune_workers(*, older_than: float) -> Statement[Nothing]:
    """Forget workers that ended more than ``older_than`` seconds ago."""
    return Statement(_PRUNE_WORKERS, {"age": older_than})


_PRUNE_WORKERS = "DELETE FROM worker WHERE ended_at < now() - %(age)s * interval '1 second'"
