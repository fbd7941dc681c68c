"""Parts of the statements that end tasks, whoever ends them."""

#: CTEs for statements whose CTEs `unready` and `unheld` have taken tasks out of their places: these, locked, as `found`.
FOUND = """
found AS MATERIALIZED (
  SELECT t.id, t.state AS before FROM task t
  WHERE t.id = ANY (ARRAY(SELECT task_id FROM unready UNION ALL SELECT task_id FROM unheld))
  ORDER BY t.id FOR UPDATE
)"""

#: A CTE for statements whose CTE `done` has tasks that may have ended outside of a run: ``id, completed_at``. Who waits
#: for them (``AsyncResult``, a chord, errbacks) is told through the outbox.
TOLD = """
told AS (
  INSERT INTO outbox (kind, payload, created_at)
  SELECT 'outcome', json_build_object('task_id', id), now() FROM done WHERE completed_at IS NOT NULL
)"""
