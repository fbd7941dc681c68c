"""Pause and resume queues, and create them before their first task."""

from __future__ import annotations

from collections.abc import Sequence

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import text_array


def name_queues(names: Sequence[str], *, made_by: str, most: int | None) -> Statement[tuple[list[str], int]]:
    """Create the queues that a caller names. Returns one row: the queues that did not exist, and how many this caller
    has named before. The queues are created unless the caller would then have named more than ``most``; None: any
    number. Two calls at once may each find the last place free.
    """
    return Statement(_NAME_QUEUES, {"name": text_array(names), "made_by": made_by, "most": most})


_NAME_QUEUES = """
WITH new AS MATERIALIZED (
  SELECT name FROM (SELECT DISTINCT unnest(%(name)s::text[]) COLLATE "C" AS name) AS i
  WHERE NOT EXISTS (SELECT FROM queue q WHERE q.name = i.name)
    AND NOT EXISTS (SELECT FROM task_type t WHERE t.queue = i.name)
    AND NOT EXISTS (SELECT FROM task_count c WHERE c.queue = i.name)
), named AS (
  SELECT count(*) AS count FROM queue WHERE made_by = %(made_by)s
), made AS (
  INSERT INTO queue (name, made_by) SELECT name, %(made_by)s FROM new
  WHERE %(most)s::bigint IS NULL OR (SELECT count FROM named) + (SELECT count(*) FROM new) <= %(most)s
  ORDER BY name
  ON CONFLICT DO NOTHING
)
SELECT ARRAY(SELECT name FROM new), (SELECT count FROM named)
"""


def set_paused(queue: str, *, paused: bool, make: bool) -> Statement[tuple[bool]]:
    """Pause or resume a queue. Returns whether it was paused; no row: it was never used, and is not created.

    A pause is one flag that the claim reads: nothing is moved, and running tasks go on.

    Args:
        make: whether to create a queue that was never used.
    """
    return Statement(_SET_PAUSED, {"queue": queue, "paused": paused, "make": make})


_SET_PAUSED = """
WITH known AS (
  SELECT coalesce(q.paused, false) AS was_paused
  FROM (SELECT) AS one LEFT JOIN queue q ON q.name = %(queue)s
  WHERE %(make)s OR q.name IS NOT NULL
     OR EXISTS (SELECT FROM task_type WHERE queue = %(queue)s)
     OR EXISTS (SELECT FROM task_count WHERE queue = %(queue)s)
), done AS (
  INSERT INTO queue (name, paused) SELECT %(queue)s, %(paused)s FROM known
  ON CONFLICT (name) DO UPDATE SET paused = excluded.paused WHERE queue.paused <> excluded.paused
)
SELECT was_paused FROM known
"""


def count_ready(queue: str, *, up_to: int) -> Statement[tuple[int]]:
    """Returns how many tasks of the queue are ready, counted no further than ``up_to``."""
    return Statement(
        "SELECT count(*) FROM (SELECT FROM ready WHERE queue = %(queue)s LIMIT %(up_to)s) AS found",
        {"queue": queue, "up_to": up_to},
    )
