"""Pause queues, let them go on, make them known before their first task."""

from __future__ import annotations

from ledgerq_shared.sql import Statement


def set_paused(queue: str, *, paused: bool, make: bool) -> Statement:
    """Pause a queue or let it go on. Row: ``(was_paused,)``; none: it was never used, and is not made.

    A pause is one flag that the claim reads: nothing is moved, and what runs goes on.

    Args:
        make: whether a queue that was never used is made.
    """
    return Statement(
        """
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
        """,
        {"queue": queue, "paused": paused, "make": make},
    )


def count_ready(queue: str, *, up_to: int) -> Statement:
    """Row ``(count,)`` of the queue's ready tasks, counted no further than ``up_to``."""
    return Statement(
        "SELECT count(*) FROM (SELECT FROM ready WHERE queue = %(queue)s LIMIT %(up_to)s) AS found",
        {"queue": queue, "up_to": up_to},
    )
