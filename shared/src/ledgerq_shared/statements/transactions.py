"""Find out the outcome of a flush whose COMMIT got no answer. PostgreSQL is asked for the flush's effect, because after
a failover it gives out numbers of transactions, claims and processes again, to others.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ledgerq_shared.events import EventKind
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array

#: A transaction that stands still for this many milliseconds, with locks that its own client needs, has lost its
#: client.
_STANDS_STILL_FOR = 100


class Rows(NamedTuple):
    """The rows that a flush writes and thereby locks."""

    #: The claims whose tasks it records.
    claims: Collection[int]
    #: Those tasks.
    tasks: Collection[str]
    #: The ready tasks that it claims.
    taken: Collection[str]

    def as_params(self) -> dict[str, str]:
        """As arrays."""
        return {name: plain_array(values) for name, values in self._asdict().items()}


def end_standstill(rows: Rows) -> Statement[tuple[bool]]:
    """End server processes that stand still in the middle of a transaction that has locked one of ``rows``: the client
    is gone, but its server process does not know that yet. Returns for each whether it got the signal.
    """
    return Statement(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE usename = current_user AND state LIKE 'idle in transaction%%'
          AND state_change < clock_timestamp() - %(for)s * interval '1 millisecond' AND backend_xid IN (
            SELECT xmax FROM claim WHERE no = ANY (%(claims)s::bigint[])
            UNION ALL SELECT xmax FROM task WHERE id = ANY (%(tasks)s::uuid[])
            UNION ALL SELECT xmax FROM ready WHERE task_id = ANY (%(taken)s::uuid[]))
        """,
        {**rows.as_params(), "for": _STANDS_STILL_FOR},
    )


def lock_written(rows: Rows) -> Statement[tuple[int, int, int]]:
    """Lock what a flush has written; returns how many ready tasks, claims and tasks that are. It raises at once
    (SQLSTATE 55P03) if another transaction has a lock: the flush may still be under way, for example while its COMMIT
    waits for a standby.
    """
    return Statement(_LOCK_WRITTEN, rows.as_params())


_LOCK_WRITTEN = """
WITH locked_ready AS MATERIALIZED (
  SELECT task_id FROM ready WHERE task_id = ANY (%(taken)s::uuid[]) ORDER BY task_id FOR UPDATE NOWAIT
), locked_claims AS MATERIALIZED (
  SELECT no FROM claim WHERE no = ANY (%(claims)s::bigint[]) ORDER BY no FOR UPDATE NOWAIT
), locked_tasks AS MATERIALIZED (
  SELECT id FROM task WHERE id = ANY (%(tasks)s::uuid[]) ORDER BY id FOR UPDATE NOWAIT
)
SELECT (SELECT count(*) FROM locked_ready), (SELECT count(*) FROM locked_claims), (SELECT count(*) FROM locked_tasks)
"""


def has_event(task_id: str, *, kind: EventKind, attempt: int, actor: str) -> Statement[tuple[bool]]:
    """Whether the task's history has this event."""
    return Statement(
        """
        SELECT EXISTS (
          SELECT FROM task_event WHERE task_id = %(id)s::uuid AND kind = %(kind)s AND attempt = %(attempt)s
            AND actor = %(actor)s)
        """,
        {"id": task_id, "kind": kind.value, "attempt": attempt, "actor": actor},
    )


def has_refusal(task_id: str, *, claim_no: int, actor: str) -> Statement[tuple[bool]]:
    """Whether the task's history says that a late write under this claim was refused."""
    return Statement(
        """
        SELECT coalesce(bool_or(CASE WHEN kind = 'late_write_refused' THEN data->>'claim' = %(no)s::text END), false)
        FROM task_event WHERE task_id = %(id)s::uuid AND actor = %(actor)s
        """,
        {"id": task_id, "no": claim_no, "actor": actor},
    )


def has_log_line(task_id: str, *, seq: int, data: str) -> Statement[tuple[bool]]:
    """Whether the task's history has this line at this place."""
    return Statement(
        """
        SELECT EXISTS (
          SELECT FROM task_event WHERE task_id = %(id)s::uuid AND seq = %(seq)s AND kind = 'log'
            AND data::text = %(data)s)
        """,
        {"id": task_id, "seq": seq, "data": data},
    )


def has_progress(task_id: str, *, percent: float, status: str | None) -> Statement[tuple[bool]]:
    """Whether this is the task's progress."""
    return Statement(
        """
        SELECT EXISTS (
          SELECT FROM task WHERE id = %(id)s::uuid AND progress = %(percent)s::real
            AND progress_status IS NOT DISTINCT FROM %(status)s)
        """,
        {"id": task_id, "percent": percent, "status": status},
    )


def has_claim(no: int, *, worker_id: str, slot: int) -> Statement[tuple[bool]]:
    """Whether this slot holds this claim."""
    return Statement(
        """
        SELECT EXISTS (
          SELECT FROM claim WHERE no = %(no)s AND worker_id = %(worker_id)s::uuid AND slot = %(slot)s)
        """,
        {"no": no, "worker_id": worker_id, "slot": slot},
    )
