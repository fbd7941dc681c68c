"""The counters' part of every statement that changes the state of tasks."""

#: A CTE for statements whose CTE `done` has the changed tasks: ``task_type, queue, before, state``.
COUNTED = """
counted AS (
  INSERT INTO task_count (task_type, queue, state, delta)
  SELECT task_type, queue, state, sum(delta) FROM (
    SELECT task_type, queue, before AS state, -1 AS delta FROM done
    UNION ALL SELECT task_type, queue, state, 1 FROM done
  ) d GROUP BY task_type, queue, state HAVING sum(delta) <> 0
)"""
