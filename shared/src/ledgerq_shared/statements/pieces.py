"""Pieces that several statements share: CTEs with fixed names.

A statement joins them after ``WITH``. Each piece says which CTEs it needs and which it gives. The usual ones are:
`input`, what the caller passes; `owner` and `valid`, what the claims still hold of that; `found`, locked tasks; `done`,
the tasks after the change, with ``before``, their state before it.
"""

from __future__ import annotations

from ledgerq_shared.statements.times import LATEST

#: Needs `owner` and `valid`. Takes the valid inputs out of their claims; an empty claim is deleted.
RELEASE = """
rest AS (
  SELECT o.no, ARRAY(SELECT unnest(o.task_ids) EXCEPT SELECT id FROM valid) AS task_ids FROM owner o
), emptied AS (
  DELETE FROM claim c USING rest r WHERE c.no = r.no AND cardinality(r.task_ids) = 0
), shrunk AS (
  UPDATE claim c SET task_ids = r.task_ids FROM rest r WHERE c.no = r.no AND cardinality(r.task_ids) > 0
)"""

#: A condition on a ``task_id``: only these tasks, if some are named. Needs the parameter ``tasks``; null means all
#: tasks.
OF_THESE = "(%(tasks)s::uuid[] IS NULL OR task_id = ANY (%(tasks)s::uuid[]))"

#: Needs a query of ``ids``. Takes these tasks out of `ready` and `held`, except those that another transaction has
#: locked; gives `unready` and `unheld`.
TAKEN_OUT = """
unready AS (
  DELETE FROM ready WHERE task_id = ANY (ARRAY(
    SELECT task_id FROM ready WHERE task_id = ANY (ARRAY({ids})) FOR UPDATE SKIP LOCKED))
  RETURNING task_id
), unheld AS (
  DELETE FROM held WHERE task_id = ANY (ARRAY(
    SELECT task_id FROM held WHERE task_id = ANY (ARRAY({ids})) FOR UPDATE SKIP LOCKED))
  RETURNING task_id
)"""

#: A part of an UPDATE of the task ``t``, whose start may not be in the ledger yet. In that case the start is written
#: together with what came after it, and the event also stands for `dispatched` and `started`, and takes three numbers.
#: Needs ``with_start`` of a ``row``, which says whether this is so, and the times before which the task has not
#: ``begun``.
START_WITH_END = f"""seq = t.seq + CASE WHEN {{row}}.with_start THEN 3 ELSE 1 END,
    started_at = CASE WHEN {{row}}.with_start THEN greatest({{begun}}, {LATEST}) ELSE t.started_at END"""

#: The values for the event that belong to START_WITH_END: ``claimed_at, started_at``. Needs `done` (``with_start,
#: claimed_at, started_at``).
START_IN_EVENT = "CASE WHEN with_start THEN claimed_at END, CASE WHEN with_start THEN started_at END"

#: Needs `unready` and `unheld` (``task_id``), which took tasks out of ``ready`` and ``held``. Gives `found`: these
#: tasks, locked in the order of their ids.
FOUND = """
found AS MATERIALIZED (
  SELECT t.id, t.state AS before FROM task t
  WHERE t.id = ANY (ARRAY(SELECT task_id FROM unready UNION ALL SELECT task_id FROM unheld))
  ORDER BY t.id FOR UPDATE
)"""

#: Makes tasks ready: the head of an INSERT, whose query gives each task's values in this order. ``run_at`` is its place
#: in the queue (``times.PLACE``); ``alone`` says that it is a suspect. Only a submit has a text of its own, because a
#: new task is never a suspect.
INTO_READY = "INSERT INTO ready (task_id, queue, priority, run_at, task_type, alone, expires_at)"

#: Needs `done` (``task_type, queue, before, state``). Writes the counters for a change of state.
COUNTED = """
counted AS (
  INSERT INTO task_count (task_type, queue, state, delta)
  SELECT task_type, queue, state, sum(delta) FROM (
    SELECT task_type, queue, before AS state, -1 AS delta FROM done
    UNION ALL SELECT task_type, queue, state, 1 FROM done
  ) d GROUP BY task_type, queue, state HAVING sum(delta) <> 0
)"""

#: Needs `done` (``id, completed_at``), of which some may have ended outside of a run. Writes outbox entries for what
#: waits for these (``AsyncResult``, a chord, errbacks).
TOLD = """
told AS (
  INSERT INTO outbox (kind, payload, created_at)
  SELECT 'outcome', json_build_object('task_id', id), now() FROM done WHERE completed_at IS NOT NULL
)"""

#: Needs `done` (``id, unique_key, completed_at``), of which some may have ended. Frees the unique keys that these held.
FREED = """
freed AS (
  DELETE FROM unique_key WHERE key = ANY (ARRAY(
    SELECT k.key FROM unique_key k
    WHERE k.key = ANY (ARRAY(SELECT unique_key FROM done WHERE unique_key IS NOT NULL AND completed_at IS NOT NULL))
      AND k.task_id = ANY (ARRAY(SELECT id FROM done WHERE unique_key IS NOT NULL))
      AND k.until IS NULL
    ORDER BY k.key COLLATE "C" FOR UPDATE))
)"""
