"""Let a Celery id that has ended be used again: the earlier task gives it up, and keeps its history under its own id."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ledgerq_shared.ids import SAME_DELIVERY
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import id_array, text_array


def free_celery_ids(celery_ids: Sequence[tuple[UUID, str]]) -> Statement[tuple[str, str]]:
    """Take the Celery ids away from the tasks that have ended under them. Returns the new task's id and the earlier
    one's.

    A task that was made for the same delivery of the message keeps its id: the message was read twice. So does a task
    that has not ended.

    Args:
        celery_ids: new tasks' own ids, each with the Celery id that it needs.
    """
    return Statement(
        _FREE_CELERY_IDS,
        {
            "id": id_array([own for own, _ in celery_ids]),
            "celery_id": text_array(celery_id for _, celery_id in celery_ids),
        },
    )


# The look-up is a scalar sub-select, because the planner would turn anything else into a hash join over all of `task`.
_FREE_CELERY_IDS = f"""
WITH input AS (
  SELECT DISTINCT ON (celery_id) id, celery_id
  FROM unnest(%(id)s::uuid[], %(celery_id)s::text[]) AS u(id, celery_id) ORDER BY celery_id, id
), found AS MATERIALIZED (
  SELECT t.id, t.celery_id FROM task t
  WHERE t.id = ANY (ARRAY(SELECT (SELECT t.id FROM task t WHERE t.celery_id = i.celery_id) FROM input i))
    AND t.completed_at IS NOT NULL
  ORDER BY t.id FOR UPDATE
)
UPDATE task t SET celery_id = NULL FROM found f JOIN input i ON i.celery_id = f.celery_id
WHERE t.id = f.id AND right(t.id::text, {SAME_DELIVERY}) <> right(i.id::text, {SAME_DELIVERY})
RETURNING i.id::text, t.id::text
"""
