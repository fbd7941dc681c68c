"""Take tasks back from a worker, or from one of its slots, that will not finish them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array
from ledgerq_shared.statements.pieces import COUNTED, FREED, INTO_READY, RELEASE, START_IN_EVENT, START_WITH_END, TOLD
from ledgerq_shared.statements.times import LATEST, LATEST_BEFORE_START, PLACE
from ledgerq_shared.task_errors import TaskError


class TakenBack(NamedTuple):
    """A task that a claim held."""

    id: str
    queue: str
    #: Its present state; PENDING and RETRY mean that it is ready again.
    state: str
    task_type: str
    #: With how many deaths of workers it is charged, with this one.
    worker_deaths: int
    #: Whether it ends as FAILURE because of them.
    is_quarantined: bool


def recover_claims(
    *,
    worker_id: UUID,
    slot: int | None = None,
    numbers: Collection[int] | None = None,
    tasks: Collection[str] | None = None,
    suspects: Collection[str] | None,
    charge: bool = True,
    is_whole_node: bool = False,
    begun: Collection[tuple[int, str]] = (),
    quarantine_after: int,
    why: str,
    actor: str,
) -> Statement[TakenBack]:
    """End all claims of a worker, or of one of its slots; returns the tasks that they held.

    A task whose code was running is *charged* with the death: it runs again, alone, or ends as FAILURE with
    `WorkerLost` (``on_worker_lost = fail``) or `TaskQuarantined` (too many deaths). All other tasks go back to their
    place in the queue as if nothing had happened. A task whose cancellation was requested ends as REVOKED. With
    ``fail`` a task that had begun never begins again, charged or not.

    The same holds for tasks that came as Celery messages, of types that the worker has registered as *acknowledged*.
    Their start is not written before it happens: those that cannot be excluded from having begun end as FAILURE, too.

    Args:
        slot: only this slot's claims; None: all claims of the worker.
        numbers: only the claims with these numbers; None: all.
        tasks: only these tasks of the claims: a claim keeps the others; None: all.
        suspects: tasks that are known to have been running. None: nobody could tell (the machine is gone). Then tasks
            that are STARTED in the ledger are charged. The others may or may not have begun: they are not charged, but
            run alone, and a suspect's start is recorded before it begins, so that the next death shows it.
        is_whole_node: all tasks that ran on a node died together, and any of them may be the reason. The event notes
            this, for :func:`read_suspicion`.
        begun: tasks that are known to have begun, as ``(claim, task)``; they may have ended since.
        quarantine_after: worker deaths after which a task is quarantined.
        charge: False if we caused the death ourselves (end of the grace period): then no task is charged.
        why: short reason for the events, such as ``SIGKILL`` or ``lease expired``.
    """
    return Statement(
        _RECOVER if tasks is None else _RECOVER_SOME,
        {
            **_which(worker_id, slot, numbers),
            "tasks": plain_array(tasks or ()),
            "known": suspects is not None,
            "suspects": plain_array(suspects or ()),
            "charge": charge,
            "whole_node": is_whole_node,
            "begun_no": plain_array(no for no, _ in begun),
            "begun": plain_array(task for _, task in begun),
            "limit": quarantine_after,
            "why": why,
            "actor": actor,
        },
        row=TakenBack._make,
    )


def find_claimed(
    *, worker_id: UUID, slot: int | None = None, numbers: Collection[int] | None = None, limit: int
) -> Statement[tuple[str]]:
    """Returns the ids of the tasks that :func:`recover_claims` would take back."""
    return Statement(
        f"SELECT unnest(task_ids)::text FROM claim WHERE {_CLAIMS} ORDER BY no LIMIT %(limit)s",
        {**_which(worker_id, slot, numbers), "limit": limit},
    )


def _which(worker_id: UUID, slot: int | None, numbers: Collection[int] | None) -> dict[str, object]:
    return {
        "worker_id": str(worker_id),
        "slot": slot,
        "numbers": None if numbers is None else plain_array(numbers),
    }


class HeldClaim(NamedTuple):
    """A claim of a worker. After a failover that lost some claims, its number may be given out again, but not with the
    same time.
    """

    no: int
    slot: int
    claimed_at: datetime


def find_claims(worker_id: UUID) -> Statement[HeldClaim]:
    """Returns the claims of a worker."""
    return Statement(
        "SELECT no, slot, claimed_at FROM claim WHERE worker_id = %(id)s::uuid",
        {"id": str(worker_id)},
        "find_claims",
        row=HeldClaim._make,
    )


def read_suspicion(task_id: str) -> Statement[tuple[int, bool]]:
    """Returns how often workers died while this suspect ran, and whether a whole node once died, with other tasks that
    may have been the reason. No row: there is no such task.
    """
    return Statement(
        """
        SELECT t.worker_deaths, EXISTS (
          SELECT FROM task_event e WHERE e.task_id = t.id AND e.kind = 'recovered' AND e.data->>'whole_node' = 'true')
        FROM task t WHERE t.id = %(id)s::uuid
        """,
        {"id": task_id},
    )


_CLAIMS = """
  worker_id = %(worker_id)s::uuid AND (%(slot)s::integer IS NULL OR slot = %(slot)s::integer)
  AND (%(numbers)s::bigint[] IS NULL OR no = ANY(%(numbers)s::bigint[]))"""

_ALL = f"""
WITH taken AS (
  DELETE FROM claim WHERE {_CLAIMS} RETURNING no, task_ids, claimed_at, alone
)"""

_SOME = f"""
WITH owner AS MATERIALIZED (
  SELECT no, task_ids, claimed_at, alone FROM claim WHERE {_CLAIMS} ORDER BY no FOR UPDATE
), valid AS (
  SELECT unnest(%(tasks)s::uuid[]) AS id
), {RELEASE}, taken AS (
  SELECT no, ARRAY(SELECT unnest(task_ids) INTERSECT SELECT id FROM valid) AS task_ids, claimed_at, alone
  FROM owner
)"""

_REST = f""", lost AS (
  SELECT unnest(task_ids) AS id, no, claimed_at, alone FROM taken
), begun AS (
  SELECT * FROM unnest(%(begun_no)s::bigint[], %(begun)s::uuid[]) AS b(no, id)
), holder AS (
  SELECT acknowledged FROM worker WHERE id = %(worker_id)s::uuid
), found AS MATERIALIZED (
  SELECT t.id, t.state AS before, t.worker_deaths, t.cancel_requested_at, l.no, is_acknowledged,
         greatest(l.claimed_at, {LATEST_BEFORE_START}) AS claimed_at,
         t.state = 'STARTED' OR t.id = ANY(%(suspects)s::uuid[])
           OR (is_acknowledged AND ((NOT %(known)s AND NOT l.alone) OR (l.no, l.id) IN (SELECT no, id FROM begun)))
           AS had_begun,
         NOT %(known)s OR l.alone AS is_uncertain,
         CASE WHEN is_acknowledged THEN 'fail'
              ELSE coalesce(t.on_worker_lost, y.options->>'on_worker_lost', 'rerun') END AS policy
  FROM lost l JOIN task t ON t.id = l.id LEFT JOIN task_type y ON y.name = t.task_type,
  LATERAL (SELECT t.celery IS NOT NULL AND t.on_worker_lost IS NULL
                  AND t.task_type = ANY (ARRAY(SELECT unnest(acknowledged) FROM holder)) AS is_acknowledged) a
  WHERE t.completed_at IS NULL
  ORDER BY t.id FOR UPDATE OF t
), decided AS (
  SELECT f.*, f.had_begun AND f.before <> 'STARTED' AS with_start, f.had_begun AND %(charge)s AS is_charged,
    CASE WHEN f.cancel_requested_at IS NOT NULL THEN 'REVOKED'
         WHEN f.had_begun AND f.policy = 'fail' THEN 'FAILURE'
         WHEN f.had_begun AND %(charge)s AND f.worker_deaths + 1 >= %(limit)s THEN 'FAILURE'
         WHEN f.had_begun THEN 'PENDING' ELSE f.before END AS state
  FROM found f
), done AS (
  UPDATE task t SET state = d.state, worker_deaths = t.worker_deaths + d.is_charged::integer,
    attempt = t.attempt + d.with_start::integer,
    {START_WITH_END.format(row="d", begun="d.claimed_at")},
    completed_at = CASE WHEN d.state IN ('FAILURE', 'REVOKED') THEN greatest(clock_timestamp(), d.claimed_at, {LATEST}) END,
    noted_at = CASE WHEN d.state IN ('FAILURE', 'REVOKED') THEN t.noted_at
      ELSE greatest(clock_timestamp(), d.claimed_at, {LATEST}) END,
    error = CASE WHEN d.state = 'FAILURE' THEN json_build_object(
      'type', CASE WHEN d.policy = 'fail' THEN '{TaskError.WORKER_LOST}' ELSE '{TaskError.TASK_QUARANTINED}' END,
      'message', CASE WHEN d.is_acknowledged
        THEN format('The worker was lost while this task ran, or may have run (%%s); its message was acknowledged.', %(why)s)
        WHEN d.policy = 'fail'
        THEN format('The worker was lost while running this task (%%s), and it must not run twice.', %(why)s)
        ELSE format('This task was running each time when %%s workers died (last: %%s); it will not run again by itself.',
                    d.worker_deaths + 1, %(why)s) END,
      'traceback', NULL, 'retryable', false) ELSE t.error END
  FROM decided d WHERE t.id = d.id AND (d.had_begun OR d.state <> d.before)
  RETURNING t.id, t.seq, t.task_type, t.queue, t.state, t.attempt, t.started_at, d.before, d.with_start, d.is_charged,
            t.worker_deaths, t.unique_key, t.completed_at, t.noted_at, d.no, d.claimed_at, d.cancel_requested_at
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, claimed_at, started_at, data)
  SELECT id, seq, coalesce(completed_at, noted_at),
         CASE state WHEN 'PENDING' THEN 'recovered' WHEN 'FAILURE' THEN 'failed' ELSE 'revoked' END, attempt, %(actor)s,
         {START_IN_EVENT},
         json_build_object('reason', CASE WHEN state = 'REVOKED' THEN 'cancelled' ELSE 'worker_lost' END,
                           'why', %(why)s, 'claim', no, 'charged', is_charged, 'worker_deaths', worker_deaths,
                           'whole_node', %(whole_node)s::boolean)
  FROM done
), {COUNTED}, {FREED}, {TOLD}, made_ready AS (
  {INTO_READY}
  SELECT t.id, t.queue, t.priority, {PLACE}, t.task_type,
         d.is_charged OR d.is_uncertain OR t.worker_deaths > 0, t.expires_at
  FROM decided d JOIN task t ON t.id = d.id WHERE d.state IN ('PENDING', 'RETRY')
)
SELECT t.id, t.queue, d.state, t.task_type, d.worker_deaths + d.is_charged::integer,
       d.state = 'FAILURE' AND d.policy <> 'fail' AS is_quarantined
FROM decided d JOIN task t ON t.id = d.id
"""

_RECOVER = _ALL + _REST
_RECOVER_SOME = _SOME + _REST
