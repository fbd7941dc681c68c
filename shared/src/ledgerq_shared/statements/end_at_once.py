"""End tasks in the transaction that accepts them, before any worker can see them: what cannot run is a row that says
why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import id_array, text_array
from ledgerq_shared.statements.pieces import COUNTED, FOUND, FREED, TOLD
from ledgerq_shared.statements.times import LATEST


class EndAtOnce(NamedTuple):
    """How a task that never runs ends."""

    id: UUID
    #: ``{type, message, traceback, retryable}`` as JSON: it is FAILURE; None: it is REVOKED.
    error: str | None
    #: A JSON object for the event.
    data: str


def end_at_once(ends: Sequence[EndAtOnce], *, actor: str) -> Statement[tuple[str]]:
    """End those of the tasks that this transaction has accepted; returns their ids. A task whose id was there before is
    left as it is, also if it waits.
    """
    return Statement(
        _END_AT_ONCE,
        {
            "ids": id_array([end.id for end in ends]),
            "error": text_array(end.error for end in ends),
            "data": text_array(end.data for end in ends),
            "actor": actor,
        },
    )


#: Of a row: this transaction inserted it. (A transaction's number is of 64 bits, a row keeps 32 of them.)
_IS_NEW = "xmin::text = mod(txid_current(), 1::bigint << 32)::text"

_END_AT_ONCE = f"""
WITH input AS MATERIALIZED (
  SELECT id, error, data FROM unnest(%(ids)s::uuid[], %(error)s::text[], %(data)s::text[]) AS u(id, error, data)
), unready AS (
  DELETE FROM ready WHERE task_id = ANY (%(ids)s::uuid[]) AND {_IS_NEW} RETURNING task_id
), unheld AS (
  DELETE FROM held WHERE task_id = ANY (%(ids)s::uuid[]) AND {_IS_NEW} RETURNING task_id
), {FOUND}, done AS (
  UPDATE task t SET state = CASE WHEN i.error IS NULL THEN 'REVOKED' ELSE 'FAILURE' END, error = i.error::json,
    completed_at = greatest(clock_timestamp(), {LATEST}), seq = t.seq + 1,
    cancel_requested_at = CASE WHEN i.error IS NULL THEN clock_timestamp() END
  FROM found f JOIN input i ON i.id = f.id WHERE t.id = f.id
  RETURNING t.id, t.seq, t.completed_at, t.task_type, t.queue, t.state, t.attempt, t.unique_key, f.before, i.data
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
  SELECT id, seq, completed_at, CASE state WHEN 'FAILURE' THEN 'failed' ELSE 'revoked' END, attempt, %(actor)s,
         data::json
  FROM done
), {COUNTED}, {TOLD}, {FREED}
SELECT id FROM done
"""
