"""Keep the counters of tasks short."""

from __future__ import annotations

from ledgerq_shared.sql import Statement


def fold_counts(*, at_least: int, at_most: int = 50_000) -> Statement[tuple[int]]:
    """Replace the differences in ``task_count`` by their sums once there are ``at_least`` rows; returns how many rows
    were replaced.

    Readers see either all of the old rows or all of the new ones. Differences that are committed meanwhile are not
    touched, nor are sums that have nothing to be added to.

    Args:
        at_most: how many rows to replace at once.
    """
    return Statement(_FOLD_COUNTS, {"n": at_least, "most": at_most})


_FOLD_COUNTS = """
WITH enough AS (SELECT FROM (SELECT FROM task_count LIMIT %(n)s) AS found HAVING count(*) >= %(n)s),
several AS MATERIALIZED (
  SELECT task_type, queue, state FROM task_count WHERE EXISTS (SELECT FROM enough)
  GROUP BY task_type, queue, state HAVING count(*) > 1
), old AS (
  DELETE FROM task_count WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM task_count c JOIN several USING (task_type, queue, state) LIMIT %(most)s))
  RETURNING *
), new AS (
  INSERT INTO task_count (task_type, queue, state, delta)
  SELECT task_type, queue, state, sum(delta) FROM old GROUP BY task_type, queue, state HAVING sum(delta) <> 0
)
SELECT count(*) FROM old
"""
