"""Worker nodes: register, renew the lease, end; and the leader's lease."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import text_array
from ledgerq_shared.statements.times import PLACE

#: Condition on a row of ``worker``: it is live. Its lease counts by itself: where no maintenance runs, nobody declares
#: those dead whose lease is over.
IS_LIVE = "ended_at IS NULL AND lease_until > now()"

#: Condition on a row of ``worker`` that has not ended: its lease is over. Or it was renewed in the future, by more than a
#: lease: since then the database's clock was set back, and who lives has renewed it anew. (By the clock, not by ``now()``:
#: a renewal that commits while this is asked is not in the future.)
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
) -> Statement:
    """A worker node appears, with a lease of ``lease`` seconds. What waited for one of its task types becomes ready.

    Rows: ``(queue,)`` of what became ready.
    """
    return Statement(
        f"""
        WITH made AS (
          INSERT INTO worker (id, name, host, pid, pool, slots, queues, task_types, ticket_lists,
                              started_at, beat_at, lease_until)
          VALUES (%(id)s::uuid, %(name)s, %(host)s, %(pid)s, %(pool)s, %(slots)s, %(queues)s::text[],
                  %(task_types)s::text[], true, now(), now(), now() + %(lease)s * interval '1 second')
        ), known AS (
          INSERT INTO queue (name)
          SELECT name FROM unnest(%(queues)s::text[]) AS q(name) ORDER BY name COLLATE "C" ON CONFLICT DO NOTHING
        ), freed AS (
          DELETE FROM held WHERE reason = 'no_worker' AND task_type = ANY(%(task_types)s::text[])
            AND queue = ANY(%(queues)s::text[])
          RETURNING task_id, alone
        )
        INSERT INTO ready (task_id, queue, priority, run_at, task_type, alone, expires_at)
        SELECT t.id, t.queue, t.priority, {PLACE}, t.task_type, freed.alone, t.expires_at
        FROM freed JOIN task t ON t.id = freed.task_id RETURNING queue
        """,
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
        },
    )


def renew_lease(*, worker_id: UUID, lease: float, stopping: bool) -> Statement:
    """Renew a worker's lease. It touches the worker's own row and no other, and waits for nobody who has locked that.

    Row ``(is_renewed, is_registered)``: neither, if it was declared dead; then its claims are void, and it must register
    anew. Not renewed but registered: somebody has its row just now.
    """
    return Statement(
        """
        WITH free AS MATERIALIZED (
          SELECT id FROM worker WHERE id = %(id)s::uuid AND ended_at IS NULL FOR NO KEY UPDATE SKIP LOCKED
        ), beat AS (
          UPDATE worker w SET beat_at = now(), lease_until = now() + %(lease)s::float8 * interval '1 second',
                              stopping = %(stopping)s::boolean
          FROM free WHERE w.id = free.id RETURNING w.id
        )
        SELECT EXISTS (SELECT FROM beat), EXISTS (SELECT FROM worker WHERE id = %(id)s::uuid AND ended_at IS NULL)
        """,
        {"id": str(worker_id), "lease": lease, "stopping": stopping},
        "renew_lease",
    )


def is_known(worker_id: UUID) -> Statement:
    """Row ``(bool,)``: whether there is a worker of this id, ended or not."""
    return Statement("SELECT EXISTS (SELECT FROM worker WHERE id = %(id)s::uuid)", {"id": str(worker_id)})


def find_wishes(*, worker_id: UUID) -> Statement:
    """Rows ``(claim_no, task_id, terminate)``: what a worker holds and should end, because somebody asked."""
    return Statement(
        """
        SELECT c.no, x.id::text, t.terminate FROM claim c CROSS JOIN unnest(c.cancelled) AS x(id)
        CROSS JOIN LATERAL (SELECT terminate FROM task WHERE id = x.id OFFSET 0) t
        WHERE c.worker_id = %(id)s::uuid AND x.id = ANY (c.task_ids)
        """,
        {"id": str(worker_id)},
        "find_wishes",
    )


def do_writes_wait() -> Statement:
    """Row ``(bool,)``: whether a COMMIT waits for a synchronous standby at this moment."""
    return Statement(
        """
        SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep')
        """,
        {},
    )


def end_worker(*, worker_id: UUID, why: str) -> Statement:
    """A worker has stopped (``stopped``) or died (``lost``), says its own node. Row ``(id,)`` if it had not ended before."""
    return Statement(
        """
        UPDATE worker SET ended_at = now(), ended_why = %(why)s WHERE id = %(id)s::uuid AND ended_at IS NULL
        RETURNING id
        """,
        {"id": str(worker_id), "why": why},
    )


def declare_dead(*, worker_id: UUID, lease_until: datetime) -> Statement:
    """A worker is ``lost``, says somebody else. Row ``(id,)`` if it is, or had ended before; none if it has renewed its
    lease since: then it is alive, also if that lease is over by now, for who knows what kept it from the next renewal.

    Args:
        lease_until: as :func:`find_lost_workers` has seen it.
    """
    return Statement(
        """
        UPDATE worker SET ended_at = coalesce(ended_at, now()), ended_why = coalesce(ended_why, 'lost')
        WHERE id = %(id)s::uuid AND (ended_at IS NOT NULL OR lease_until = %(until)s::timestamptz) RETURNING id
        """,
        {"id": str(worker_id), "until": lease_until},
    )


def find_lost_workers() -> Statement:
    """Rows ``(id, name, lease_until)``: workers to take claims back from. Their lease has run out; or they have ended and
    a claim of theirs became visible only after that.
    """
    return Statement(
        f"""
        SELECT id, name, lease_until FROM worker WHERE ended_at IS NULL AND {_IS_OVER}
        UNION SELECT w.id, w.name, w.lease_until FROM claim c JOIN worker w ON w.id = c.worker_id
        WHERE w.ended_at IS NOT NULL
        """,
        {},
    )


def prune_workers(*, older_than: float) -> Statement:
    """Forget workers that ended more than ``older_than`` seconds ago."""
    return Statement("DELETE FROM worker WHERE ended_at < now() - %(age)s * interval '1 second'", {"age": older_than})


def take_leadership(*, name: str, holder: UUID, lease: float) -> Statement:
    """Become or stay the leader of ``name``. Row ``(clock, until, found_holder, found_until)``: the database's clock; until
    when ``holder`` leads now, null if somebody else does; and the row as it was found, with nulls where there was none.
    Times are seconds since 1970.

    A lease that lasts for longer than two is one from before the database's clock was set back: it is over.
    """
    return Statement(
        """
        WITH taken AS (
          INSERT INTO leader (name, holder, until, beat_at)
          VALUES (%(name)s::text, %(holder)s::uuid, now() + %(lease)s::float8 * interval '1 second', now())
          ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, beat_at = excluded.beat_at
          WHERE leader.holder = excluded.holder OR leader.until < now()
             OR leader.until > now() + 2 * %(lease)s::float8 * interval '1 second'
          RETURNING until
        )
        SELECT extract(epoch FROM clock_timestamp())::float8, extract(epoch FROM taken.until)::float8,
               found.holder::text, extract(epoch FROM found.until)::float8
        FROM (SELECT) one LEFT JOIN taken ON true LEFT JOIN leader found ON found.name = %(name)s::text
        """,
        {"name": name, "holder": str(holder), "lease": lease},
        "take_leadership",
    )


def give_up_leadership(*, name: str, holder: UUID) -> Statement:
    """Let another process lead at once."""
    return Statement(
        "DELETE FROM leader WHERE name = %(name)s AND holder = %(holder)s::uuid", {"name": name, "holder": str(holder)}
    )
