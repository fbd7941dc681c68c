"""Record what a leg did: it has begun, made progress, ended, or goes on as a next leg. Every write is guarded by the
claim.

A claim's row lists the tasks that it still holds. The guard locks that row and lets a write pass only for a task on its
list: a superseded claim, or a claim whose task was handed back, changes nothing. A refused write is not among the
returned rows, and :func:`refuse` records it.

Times are passed as ages in seconds ("ended 0.2 s ago"): the worker measures them with a monotonic clock, and the
database subtracts them from its own. No time of a worker's wall clock ever gets into the ledger. No time is earlier
than that of the task's previous event (``statements.times``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array, text_array
from ledgerq_shared.statements.pieces import (
    COUNTED,
    FREED,
    INTO_READY,
    RELEASE,
    START_IN_EVENT,
    START_WITH_END,
    TOLD,
)
from ledgerq_shared.statements.times import LATEST, LATEST_BEFORE_START
from ledgerq_shared.states import State

#: Needs `input` (``id, claim_no``) and the parameter ``nos``. Gives `owner`, the claims' rows, locked in the order of
#: their numbers; and `valid`, the inputs that their claim still holds, with one time (``now``) for everything that is
#: written about each.
_GUARD = """
owner AS MATERIALIZED (
  SELECT c.no, c.task_ids, c.claimed_at, w.name AS worker
  FROM claim c JOIN worker w ON w.id = c.worker_id WHERE c.no = ANY(%(nos)s::bigint[]) ORDER BY c.no FOR UPDATE OF c
), valid AS MATERIALIZED (
  SELECT i.*, h.claimed_at, h.worker, clock_timestamp() AS now FROM input i
  JOIN (SELECT no, unnest(task_ids) AS id, claimed_at, worker FROM owner) h ON h.no = i.claim_no AND h.id = i.id
)"""

#: Whether the task ``t`` is in the state that the writer of `valid` ``v`` knows. Otherwise the write is refused: the
#: task was ended or taken back. ``IS TRUE`` makes this only a filter. A plain equation would also be a join clause, and
#: the planner could match tasks by their states, for which it has statistics, although the row should be found by its
#: id.
_IS_AS_BEFORE = "(t.state = v.before) IS TRUE"

#: Whether the task ``t`` runs; it is only a filter for the same reason.
_IS_STARTED = "(t.state = 'STARTED') IS TRUE"


class Begun(NamedTuple):
    """A task's code has begun and is still running."""

    task_id: str
    claim_no: int
    attempt: int
    #: The state in the ledger before: PENDING or RETRY.
    before: State
    #: Seconds since the code began.
    begun_ago: float
    #: ``on_worker_lost = fail`` by its code or by its submit: kept with the task, for the process that recovers it
    #: after its worker died.
    runs_once: bool = False


class Ended(NamedTuple):
    """A task has ended: SUCCESS, FAILURE or REVOKED."""

    task_id: str
    claim_no: int
    attempt: int
    #: The state in the ledger before; anything but STARTED: the start is recorded together with the end.
    before: State
    state: State
    #: Seconds since the code began; None: it never began (the task had expired or was cancelled when it was claimed).
    begun_ago: float | None
    ended_ago: float
    #: The return value as JSON; None: there is no result.
    result: str | None
    #: ``{type, message, traceback, retryable}`` as JSON; None unless FAILURE.
    error: str | None
    #: Further data for the event, as JSON; None: there are none.
    data: str | None = None


class NextLeg(NamedTuple):
    """A task goes on under the same id: Celery's retry, or its replacement by another task."""

    task_id: str
    claim_no: int
    attempt: int
    before: State
    begun_ago: float
    #: RETRY, or PENDING for a replacement.
    state: State
    task_type: str
    queue: str
    priority: int
    retries: int
    #: Seconds from now until it may run; or ``run_at``, an RFC 3339 time. If both are None, it may run at once.
    delay: float | None
    run_at: str | None
    args: str | None
    parameters: str
    celery: str | None
    #: Why, as JSON (the exception of a retry); goes into the event.
    data: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The latest progress of a running task."""

    task_id: str
    claim_no: int
    attempt: int
    percent: float
    status: str | None
    reported_ago: float


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a running task adds to its history; ``data`` is a JSON object."""

    task_id: str
    claim_no: int
    attempt: int
    data: str
    logged_ago: float


def record_begun(items: Sequence[Begun]) -> Statement[tuple[str, bool]]:
    """Write STARTED. Returns for each accepted task its id, and whether its cancellation was requested."""
    return Statement(
        _BEGUN,
        {
            "id": plain_array(item.task_id for item in items),
            "no": plain_array(item.claim_no for item in items),
            "nos": plain_array(sorted({item.claim_no for item in items})),
            "attempt": plain_array(item.attempt for item in items),
            "before": plain_array(item.before for item in items),
            "begun_ago": plain_array(item.begun_ago for item in items),
            "runs_once": plain_array(item.runs_once for item in items),
        },
        "record_begun",
    )


_BEGUN = f"""
WITH input AS (
  SELECT * FROM unnest(%(id)s::uuid[], %(no)s::bigint[], %(attempt)s::integer[], %(before)s::text[],
                       %(begun_ago)s::float8[], %(runs_once)s::boolean[])
    AS i(id, claim_no, attempt, before, begun_ago, runs_once)
), {_GUARD}, done AS (
  UPDATE task t SET state = 'STARTED', attempt = v.attempt, worker = v.worker, seq = t.seq + 2,
    started_at = greatest(v.now - v.begun_ago * interval '1 second', v.claimed_at, {LATEST}),
    completed_at = NULL, progress = NULL, progress_status = NULL, progress_at = NULL,
    on_worker_lost = CASE WHEN v.runs_once THEN 'fail' ELSE t.on_worker_lost END
  FROM valid v WHERE t.id = v.id AND {_IS_AS_BEFORE}
  RETURNING t.id, t.seq, t.task_type, t.queue, t.state, t.started_at, t.cancel_requested_at,
            v.before, v.attempt, v.worker, greatest(v.claimed_at, {LATEST_BEFORE_START}) AS claimed_at
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, claimed_at)
  SELECT id, seq, started_at, 'started', attempt, 'worker:' || worker, claimed_at FROM done
), {COUNTED}
SELECT id, cancel_requested_at IS NOT NULL FROM done
"""


def record_ended(items: Sequence[Ended]) -> Statement[tuple[str]]:
    """Write final states. Returns the ids of the accepted tasks.

    A start that was not yet in the ledger is recorded together with the end: the event then stands for `dispatched`,
    `started` and the end, and takes three numbers.
    """
    return Statement(
        _ENDED,
        {
            "id": plain_array(item.task_id for item in items),
            "no": plain_array(item.claim_no for item in items),
            "nos": plain_array(sorted({item.claim_no for item in items})),
            "attempt": plain_array(item.attempt for item in items),
            "before": plain_array(item.before for item in items),
            "state": plain_array(item.state for item in items),
            "begun_ago": plain_array(item.begun_ago for item in items),
            "ended_ago": plain_array(item.ended_ago for item in items),
            "result": text_array(item.result for item in items),
            "error": text_array(item.error for item in items),
            "data": text_array(item.data for item in items),
        },
        "record_ended",
    )


_ENDED = f"""
WITH input AS (
  SELECT *, before <> 'STARTED' AND begun_ago IS NOT NULL AS with_start
  FROM unnest(%(id)s::uuid[], %(no)s::bigint[], %(attempt)s::integer[], %(before)s::text[], %(state)s::text[],
              %(begun_ago)s::float8[], %(ended_ago)s::float8[], %(result)s::text[], %(error)s::text[], %(data)s::text[])
    AS i(id, claim_no, attempt, before, state, begun_ago, ended_ago, result, error, data)
), {_GUARD}, done AS (
  UPDATE task t SET state = v.state, attempt = v.attempt, worker = v.worker,
    {START_WITH_END.format(row="v", begun="v.now - v.begun_ago * interval '1 second', v.claimed_at")},
    completed_at = greatest(v.now - least(v.ended_ago, v.begun_ago) * interval '1 second', v.claimed_at, {LATEST}),
    result = v.result::json, error = v.error::json
  FROM valid v WHERE t.id = v.id AND {_IS_AS_BEFORE}
  RETURNING t.id, t.seq, t.task_type, t.queue, t.state, t.started_at, t.completed_at,
            t.unique_key, v.before, v.attempt, v.worker, v.data,
            greatest(v.claimed_at, {LATEST_BEFORE_START}) AS claimed_at, v.with_start
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, claimed_at, started_at, data)
  SELECT id, seq, completed_at, CASE state WHEN 'SUCCESS' THEN 'succeeded' WHEN 'FAILURE' THEN 'failed' ELSE 'revoked' END,
         attempt, 'worker:' || worker, {START_IN_EVENT}, data::json
  FROM done
), listed AS (
  INSERT INTO task_success (task_id) SELECT id FROM done WHERE state = 'SUCCESS'
), {COUNTED}, {FREED}, {RELEASE}
SELECT id FROM done
"""


def record_next_leg(item: NextLeg) -> Statement[tuple[str, bool]]:
    """Write a retry or a replacement. If it is accepted, returns the task's id, and whether its cancellation was
    requested.

    The task waits in the ledger (``held``), never in a worker's memory. The caller must revoke a task whose
    cancellation was requested, in the same transaction (:func:`~ledgerq_shared.statements.cancel.revoke_waiting`).
    """
    params = item._asdict()
    params["nos"] = plain_array([item.claim_no])
    return Statement(_NEXT_LEG, params)


_NEXT_LEG = f"""
WITH input AS (
  SELECT %(task_id)s::uuid AS id, %(claim_no)s::bigint AS claim_no, %(attempt)s::integer AS attempt,
         %(before)s::text AS before, %(begun_ago)s::float8 AS begun_ago,
         greatest(now(), %(run_at)s::timestamptz, now() + %(delay)s::float8 * interval '1 second') AS run_at
), {_GUARD}, found AS MATERIALIZED (
  SELECT v.*, t.task_type AS old_type, t.queue AS old_queue,
         greatest(v.claimed_at, {LATEST_BEFORE_START}) AS dispatched_at, v.before <> 'STARTED' AS with_start
  FROM valid v JOIN task t ON t.id = v.id WHERE {_IS_AS_BEFORE} FOR UPDATE OF t
), done AS (
  UPDATE task t SET state = %(state)s, attempt = f.attempt, worker = f.worker, task_type = %(task_type)s,
    queue = %(queue)s, priority = %(priority)s, retries = %(retries)s, run_at = f.run_at,
    args = %(args)s::json, parameters = %(parameters)s::json, celery = %(celery)s::json,
    {START_WITH_END.format(row="f", begun="f.now - f.begun_ago * interval '1 second', f.claimed_at")},
    noted_at = greatest(f.now, f.claimed_at, {LATEST})
  FROM found f WHERE t.id = f.id
  RETURNING t.id, t.seq, t.task_type, t.queue, t.priority, t.state, t.run_at, t.started_at, t.noted_at,
            t.expires_at, t.worker_deaths, t.cancel_requested_at, f.before, f.attempt, f.worker,
            f.dispatched_at AS claimed_at, f.with_start, f.old_type, f.old_queue
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, claimed_at, started_at, data)
  SELECT id, seq, noted_at, CASE state WHEN 'RETRY' THEN 'retried' ELSE 'replaced' END, attempt,
         'worker:' || worker, {START_IN_EVENT}, %(data)s::json
  FROM done
), counted AS (
  INSERT INTO task_count (task_type, queue, state, delta)
  SELECT old_type, old_queue, before, -1 FROM done UNION ALL SELECT task_type, queue, state, 1 FROM done
), made_ready AS (
  {INTO_READY}
  SELECT id, queue, priority, run_at, task_type, worker_deaths > 0, expires_at FROM done WHERE run_at <= now()
), made_held AS (
  INSERT INTO held (task_id, queue, priority, task_type, reason, until, alone, expires_at)
  SELECT id, queue, priority, task_type, CASE state WHEN 'RETRY' THEN 'retry' ELSE 'eta' END, run_at,
         worker_deaths > 0, expires_at
  FROM done WHERE run_at > now()
), {RELEASE}
SELECT id, cancel_requested_at IS NOT NULL FROM done
"""


def record_progress(items: Sequence[Progress]) -> Statement[tuple[str, bool]]:
    """Write the latest progress of running tasks. Returns the same as :func:`record_begun`."""
    return Statement(
        _PROGRESS,
        {
            "id": plain_array(item.task_id for item in items),
            "no": plain_array(item.claim_no for item in items),
            "nos": plain_array(sorted({item.claim_no for item in items})),
            "attempt": plain_array(item.attempt for item in items),
            "percent": plain_array(item.percent for item in items),
            "status": text_array(item.status for item in items),
            "ago": plain_array(item.reported_ago for item in items),
        },
        "record_progress",
    )


_PROGRESS = f"""
WITH input AS (
  SELECT * FROM unnest(%(id)s::uuid[], %(no)s::bigint[], %(attempt)s::integer[], %(percent)s::float8[],
                       %(status)s::text[], %(ago)s::float8[]) AS i(id, claim_no, attempt, percent, status, ago)
), {_GUARD}, done AS (
  UPDATE task t SET seq = t.seq + 1, progress = v.percent, progress_status = v.status,
    progress_at = greatest(v.now - v.ago * interval '1 second', {LATEST})
  FROM valid v WHERE t.id = v.id AND {_IS_STARTED}
  RETURNING t.id, t.seq, t.progress_at, t.cancel_requested_at, v.attempt, v.percent, v.status, v.worker
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
  SELECT id, seq, progress_at, 'progress', attempt, 'worker:' || worker,
         json_build_object('progress', percent, 'status', status)
  FROM done
)
SELECT id, cancel_requested_at IS NOT NULL FROM done
"""


def record_log(items: Sequence[LogLine]) -> Statement[tuple[str, int]]:
    """Add lines to the histories of running tasks, each task's in their order. Returns for each accepted task its id,
    and the place of its last line.
    """
    return Statement(
        _LOG,
        {
            "id": plain_array(item.task_id for item in items),
            "no": plain_array(item.claim_no for item in items),
            "nos": plain_array(sorted({item.claim_no for item in items})),
            "attempt": plain_array(item.attempt for item in items),
            "data": text_array(item.data for item in items),
            "ago": plain_array(item.logged_ago for item in items),
        },
        "record_log",
    )


_LOG = f"""
WITH input AS (
  SELECT * FROM unnest(%(id)s::uuid[], %(no)s::bigint[], %(attempt)s::integer[], %(data)s::text[], %(ago)s::float8[])
    WITH ORDINALITY AS i(id, claim_no, attempt, data, ago, line)
), {_GUARD}, found AS MATERIALIZED (
  SELECT t.id, v.lines, v.now, v.last_ago, {LATEST} AS latest FROM task t JOIN (
    SELECT id, count(*)::integer AS lines, max(now) AS now, min(ago) AS last_ago FROM valid GROUP BY id
  ) v ON v.id = t.id WHERE {_IS_STARTED} ORDER BY t.id FOR UPDATE OF t
), done AS (
  UPDATE task t SET seq = t.seq + f.lines, noted_at = greatest(f.now - f.last_ago * interval '1 second', f.latest)
  FROM found f WHERE t.id = f.id RETURNING t.id, t.seq AS last, t.seq - f.lines AS seq, f.now, f.latest
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
  SELECT d.id, d.seq + row_number() OVER (PARTITION BY d.id ORDER BY v.line),
         greatest(d.now - v.ago * interval '1 second', d.latest), 'log', v.attempt, 'worker:' || v.worker, v.data::json
  FROM done d JOIN valid v ON v.id = d.id
)
SELECT id, last FROM done
"""


def end_from_outside(
    *, task_id: str, claim_no: int, state: State, error: str | None, data: str | None, actor: str
) -> Statement[tuple[str]]:
    """End a running task from outside its process (hard limit, termination). Returns its id if this is accepted.

    ``AsyncResult``, a chord and errbacks learn of it through the outbox.
    """
    return Statement(
        _END_FROM_OUTSIDE,
        {
            "task_id": task_id,
            "claim_no": claim_no,
            "nos": plain_array([claim_no]),
            "state": state.value,
            "error": error,
            "data": data,
            "actor": actor,
        },
    )


_END_FROM_OUTSIDE = f"""
WITH input AS (SELECT %(task_id)s::uuid AS id, %(claim_no)s::bigint AS claim_no), {_GUARD}, found AS MATERIALIZED (
  SELECT t.id, t.state AS before, t.state <> 'STARTED' AS with_start, v.now, v.worker,
         greatest(v.claimed_at, {LATEST_BEFORE_START}) AS claimed_at
  FROM valid v JOIN task t ON t.id = v.id FOR UPDATE OF t
), done AS (
  UPDATE task t SET state = %(state)s, worker = f.worker, error = %(error)s::json,
    completed_at = greatest(f.now, f.claimed_at, {LATEST}),
    attempt = t.attempt + f.with_start::integer,
    {START_WITH_END.format(row="f", begun="f.claimed_at")}
  FROM found f WHERE t.id = f.id AND t.completed_at IS NULL
  RETURNING t.id, t.seq, t.task_type, t.queue, t.state, t.attempt, t.started_at, t.completed_at, t.unique_key,
            f.before, f.with_start, f.claimed_at
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, claimed_at, started_at, data)
  SELECT id, seq, completed_at, CASE state WHEN 'FAILURE' THEN 'failed' ELSE 'revoked' END, attempt, %(actor)s,
         {START_IN_EVENT}, %(data)s::json
  FROM done
), {TOLD}, {COUNTED}, {FREED}, {RELEASE}
SELECT id FROM done
"""


def refuse(refused: Sequence[tuple[str, int, str]], *, worker: str) -> Statement[tuple[str]]:
    """Write `late_write_refused` events: ``(task_id, claim_no, what was to be written)``. Returns the ids of those
    tasks.
    """
    return Statement(
        _REFUSE,
        {
            "id": plain_array(task_id for task_id, _, _ in refused),
            "no": plain_array(no for _, no, _ in refused),
            "what": text_array(what for _, _, what in refused),
            "worker": worker,
        },
    )


_REFUSE = f"""
WITH input AS (
  SELECT id, min(no) AS no, min(what) AS what
  FROM unnest(%(id)s::uuid[], %(no)s::bigint[], %(what)s::text[]) AS i(id, no, what) GROUP BY id
), done AS (
  UPDATE task t SET seq = t.seq + 1, noted_at = greatest(clock_timestamp(), {LATEST})
  FROM input i WHERE t.id = i.id
  RETURNING t.id, t.seq, t.noted_at, t.attempt, i.no, i.what
)
INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
SELECT id, seq, noted_at, 'late_write_refused', attempt, 'worker:' || %(worker)s,
       json_build_object('claim', no, 'write', what)
FROM done RETURNING task_id
"""
