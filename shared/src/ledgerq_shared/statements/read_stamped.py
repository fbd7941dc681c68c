"""Read which unfinished tasks have stamps, for a revoke by Celery's stamped headers."""

from __future__ import annotations

from ledgerq_shared.sql import Statement


def read_stamped() -> Statement[tuple[str, str]]:
    """Returns each unfinished task that came with stamps: its own id, and its stamps as a JSON text. It reads every
    unfinished task.
    """
    return Statement(
        """
        SELECT t.id::text, t.celery->>'stamps' FROM (
          SELECT task_id FROM ready UNION ALL SELECT task_id FROM held UNION ALL SELECT unnest(task_ids) FROM claim
        ) AS open JOIN task t ON t.id = open.task_id WHERE t.celery->>'stamps' IS NOT NULL
        """,
        {},
    )
