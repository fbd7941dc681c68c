"""Unique keys: at most one task holds a key, until it is final or for a time.

`unique_key` has one row for each key that is taken; its primary key decides every race. A submit that finds the key
taken locks that row, so the key cannot change before the submit is committed. The submit reads the holder from the
locked row, so it sees the latest committed one. The statement that ends a task also deletes its row (``pieces.FREED``).

Order of locks: a submit locks keys (sorted), then rows of `ready` and `held` without waiting, then the tasks that it
has taken out of these. A statement that ends tasks takes its locks in the usual order, and locks keys last (sorted). So
neither waits for a lock that the other can hold while it waits. "Sorted" means by COLLATE "C", which is the column's
collation, whatever the database's own order is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Nothing, Statement
from ledgerq_shared.statements.arrays import plain_array, text_array
from ledgerq_shared.statements.pieces import COUNTED, FOUND, TAKEN_OUT, TOLD
from ledgerq_shared.statements.submit import ACCEPTED, INPUT, OF_SEVERAL, NewTask, submit_parameters
from ledgerq_shared.statements.times import LATEST

#: A scalar sub-select: the actor that has submitted the task ``id``.
SUBMITTER = """
SELECT e.actor FROM task t JOIN task_event e ON e.task_id = t.id AND e.seq = 1 AND e.at = t.submitted_at
WHERE t.id = {id}"""


def submitters_of(ids: Sequence[UUID]) -> Statement[tuple[str, str | None]]:
    """Returns, by task id, the actor that has submitted each of the tasks; None: there is no such task."""
    return Statement(_SUBMITTERS, {"id": plain_array(ids)})


_SUBMITTERS = f"SELECT i.id, ({SUBMITTER.format(id='i.id')}) FROM unnest(%(id)s::uuid[]) AS i(id)"


class SubmitRow(NamedTuple):
    """The outcome for a task in :func:`submit_unique_tasks`."""

    id: str
    queue: str
    is_ready: bool
    #: The task that holds its key instead; None: it was accepted.
    holder: str | None
    #: The holder's state.
    state: str | None
    #: The holder has ended and should no longer hold the key: a worker of an older release ended it.
    is_stale: bool


def submit_unique_tasks(tasks: Sequence[NewTask]) -> Statement[SubmitRow]:
    """Accept ``tasks`` whose unique keys are free, and those without one. Returns a row for each task that was
    accepted, and for each whose key another task holds.

    Args:
        tasks: no two with the same key.
    """
    return Statement(_SUBMIT, submit_parameters(tasks), row=SubmitRow._make)


_ACCEPTED = ACCEPTED.format(source="{source}", key=", unique_key", key_of=", o->>'unique_key'", asked=OF_SEVERAL)

# A task that is there already (after an interrupted commit) takes no key, because it may have ended meanwhile. The
# look-ups are scalar sub-selects, because the planner would turn anything else into hash joins over all of `task`.
_SUBMIT = f"""
WITH {INPUT}, taken AS (
  INSERT INTO unique_key AS k (key, task_id, until)
  SELECT i.o->>'unique_key', i.id, now() + (i.o->>'unique_ttl')::float8 * interval '1 second' FROM input i
  WHERE i.o->>'unique_key' IS NOT NULL AND (SELECT t.id FROM task t WHERE t.id = i.id) IS NULL
    AND (SELECT t.id FROM task t WHERE t.celery_id = i.o->>'celery_id') IS NULL
  ORDER BY i.o->>'unique_key' COLLATE "C"
  ON CONFLICT (key) DO UPDATE SET
    task_id = CASE WHEN k.until <= now() THEN excluded.task_id ELSE k.task_id END,
    until = CASE WHEN k.until <= now() THEN excluded.until ELSE k.until END
  RETURNING key, task_id, until
), wanted AS MATERIALIZED (
  SELECT i.*, k.task_id AS holder, k.until FROM input i LEFT JOIN taken k ON k.key = i.o->>'unique_key'
), winner AS (
  SELECT * FROM wanted WHERE holder IS NULL OR holder = id
), {_ACCEPTED.format(source="winner")}
SELECT id::text, queue, coalesce(run_at <= now(), true), NULL, NULL, false FROM new
UNION ALL
SELECT w.id::text, w.queue, false, w.holder::text, coalesce(h.state, 'PENDING'),
       coalesce(h.completed_at IS NOT NULL AND w.until IS NULL, false)
FROM wanted w LEFT JOIN LATERAL (SELECT state, completed_at FROM task WHERE id = w.holder OFFSET 0) h ON true
WHERE w.holder <> w.id
"""


def take_over(tasks: Sequence[NewTask]) -> Statement[tuple[str]]:
    """Give ``tasks`` their keys if the holders can give way. Returns the ids of those that now have their keys.

    If the task's policy is ``replace``, a holder that waits ends as REVOKED, reason ``replaced``. A holder that has
    ended just loses the key. All other holders keep it; so do other submitters' tasks, if the submitter may end only
    its own (``ends_own``). Run this after :func:`submit_unique_tasks` in the same transaction, which has locked the
    keys, but as a separate statement, which sees where the holders now are. Then submit the tasks again. The event
    names the actor of the task that replaces.
    """
    options = [task.options for task in tasks]
    return Statement(
        _TAKE_OVER,
        {
            "id": plain_array(task.id for task in tasks),
            "key": text_array(option.unique_key if option else None for option in options),
            "ttl": plain_array(option.unique_ttl if option else None for option in options),
            "actor": text_array(task.actor for task in tasks),
            "replaces": plain_array(bool(option and option.unique_policy == "replace") for option in options),
            "own": plain_array(bool(option and option.ends_own) for option in options),
            "holder": "{}",
        },
    )


def submit_replaced(tasks: Sequence[NewTask]) -> Statement[tuple[str]]:
    """Accept ``tasks`` whose keys other tasks now hold. Returns the ids of those that were not there before.

    Each must be ended in the same transaction, by :func:`give_way`.
    """
    return Statement(_SUBMIT_REPLACED, submit_parameters(tasks))


_SUBMIT_REPLACED = f"WITH {INPUT}, {_ACCEPTED.format(source='input')} SELECT id FROM new"


def give_way(pairs: Sequence[tuple[UUID, NewTask]]) -> Statement[Nothing]:
    """End waiting tasks that were just accepted, as REVOKED, reason ``replaced``.

    Args:
        pairs: the task, and the task that replaces it.
    """
    return Statement(
        _TAKE_OVER,
        {
            "id": plain_array(by.id for _, by in pairs),
            "key": "{}",
            "ttl": "{}",
            "actor": text_array(by.actor for _, by in pairs),
            "replaces": plain_array(True for _ in pairs),
            "own": "{}",
            "holder": plain_array(task_id for task_id, _ in pairs),
        },
    )


_TAKE_OVER = f"""
WITH wanted AS MATERIALIZED (
  SELECT i.id, i.key, i.ttl, i.actor, i.replaces, i.own,
         coalesce(i.holder, (SELECT k.task_id FROM unique_key k WHERE k.key = i.key)) AS holder
  FROM unnest(%(id)s::uuid[], %(key)s::text[], %(ttl)s::float8[], %(actor)s::text[], %(replaces)s::boolean[],
              %(own)s::boolean[], %(holder)s::uuid[]) AS i(id, key, ttl, actor, replaces, own, holder)
), input AS MATERIALIZED (
  SELECT id, key, ttl, actor, holder,
         replaces AND CASE WHEN own THEN actor = ({SUBMITTER.format(id="w.holder")}) ELSE true END AS replaces
  FROM wanted w
), {TAKEN_OUT.format(ids="SELECT holder FROM input WHERE replaces")}, {FOUND}, done AS (
  UPDATE task t SET state = 'REVOKED', completed_at = greatest(clock_timestamp(), {LATEST}), seq = t.seq + 1
  FROM found f WHERE t.id = f.id
  RETURNING t.id, t.seq, t.completed_at, t.task_type, t.queue, t.state, t.attempt, f.before
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
  SELECT d.id, d.seq, d.completed_at, 'revoked', d.attempt, i.actor,
         json_build_object('reason', 'replaced', 'by', i.id)
  FROM done d JOIN input i ON i.holder = d.id
), {TOLD}, {COUNTED}, free AS (
  SELECT i.id, i.key, now() + i.ttl * interval '1 second' AS until FROM input i
  WHERE i.holder IN (SELECT id FROM done)
     OR (SELECT t.completed_at FROM task t WHERE t.id = i.holder) IS NOT NULL
)
UPDATE unique_key k SET task_id = f.id, until = f.until FROM free f WHERE k.key = f.key RETURNING f.id
"""


def free_keys(keys: Mapping[UUID, str]) -> Statement[Nothing]:
    """Free the ``keys`` (by task id) that were taken for tasks that were not created, because another task has the same
    Celery id. Run this in the transaction that has taken the keys.
    """
    return Statement(_FREE_KEYS, {"id": plain_array(keys), "key": text_array(keys.values())})


_FREE_KEYS = """
DELETE FROM unique_key WHERE key = ANY (ARRAY(
  SELECT k.key FROM unnest(%(id)s::uuid[], %(key)s::text[]) AS i(id, key)
  JOIN unique_key k ON k.key = i.key AND k.task_id = i.id
  WHERE (SELECT t.id FROM task t WHERE t.id = i.id) IS NULL))
"""


def retake_key(task_id: str) -> Statement[tuple[str]]:
    """Take the key of a task that will run again. Returns the id of the task that now has it, which may be another one.

    No row: the task has no key, or there is no such task.
    """
    return Statement(_RETAKE_KEY, {"id": task_id})


_RETAKE_KEY = """
INSERT INTO unique_key AS k (key, task_id) SELECT unique_key, id FROM task
WHERE id = %(id)s::uuid AND unique_key IS NOT NULL
ON CONFLICT (key) DO UPDATE SET
  task_id = CASE WHEN k.until <= now() THEN excluded.task_id ELSE k.task_id END,
  until = CASE WHEN k.until <= now() OR k.task_id = excluded.task_id THEN NULL ELSE k.until END
RETURNING task_id::text
"""


def forget_keys(*, idempotency_older_than: float, limit: int) -> Statement[tuple[int]]:
    """Delete unique keys whose time is over, and Idempotency-Keys older than this many seconds. Returns how many were
    deleted.
    """
    return Statement(_FORGET_KEYS, {"age": idempotency_older_than, "limit": limit})


_FORGET_KEYS = """
WITH unique_ones AS (
  DELETE FROM unique_key WHERE key = ANY (ARRAY(
    SELECT key FROM unique_key WHERE until <= now() ORDER BY until LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
  RETURNING 1
), idempotent_ones AS (
  DELETE FROM idempotency WHERE key = ANY (ARRAY(
    SELECT key FROM idempotency WHERE created_at < now() - %(age)s * interval '1 second'
    ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
  RETURNING 1
)
SELECT (SELECT count(*) FROM unique_ones) + (SELECT count(*) FROM idempotent_ones)
"""
