"""End tasks that did not begin in time."""

from __future__ import annotations

from collections.abc import Collection

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array
from ledgerq_shared.statements.pieces import COUNTED, FOUND, FREED, OF_THESE, TAKEN_OUT, TOLD
from ledgerq_shared.statements.times import LATEST


def expire(*, limit: int, tasks: Collection[str] | None = None) -> Statement[tuple[str]]:
    """End tasks that did not begin before their expiry as REVOKED, reason ``expired``; returns their ids. A task that
    another transaction has locked is left for the next time, so that it holds up no others.

    Args:
        tasks: only these of the tasks; None: all.
    """
    return Statement(_EXPIRE, {"limit": limit, "tasks": None if tasks is None else plain_array(tasks)})


_EXPIRE = f"""
WITH late AS (
  SELECT task_id FROM ready WHERE expires_at <= now() AND {OF_THESE}
  UNION ALL SELECT task_id FROM held WHERE expires_at <= now() AND {OF_THESE} LIMIT %(limit)s
), free AS MATERIALIZED (
  SELECT id FROM task WHERE id = ANY (ARRAY(SELECT task_id FROM late)) FOR UPDATE SKIP LOCKED
), {TAKEN_OUT.format(ids="SELECT id FROM free")}, {FOUND}, done AS (
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
"""


def find_expired(*, limit: int) -> Statement[tuple[str]]:
    """Returns the ids of the tasks that :func:`expire` would end."""
    return Statement(
        """
        SELECT task_id::text FROM ready WHERE expires_at <= now()
        UNION ALL SELECT task_id::text FROM held WHERE expires_at <= now() LIMIT %(limit)s
        """,
        {"limit": limit},
    )
