"""Submit tasks whose Celery ids may have been used before: by a `task_id` of the user's own, or a frozen signature."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.free_celery_ids import free_celery_ids
from ledgerq_shared.statements.submit import NewTask
from ledgerq_shared.tasks.submitting import Submitted, submit


def submit_reusing(cursor: Cursor, tasks: Sequence[NewTask]) -> Submitted:
    """Accept ``tasks`` as :func:`~ledgerq_shared.tasks.submitting.submit` does. A Celery id whose task has ended may be used
    again; the new task then repeats the earlier one.
    """
    submitted = submit(cursor, tasks)
    if submitted.ready.total() == len(tasks):
        return submitted  # all are new
    wanted = {task.id: (task, celery_id) for task in submitted.accepted(tasks) if (celery_id := _celery_id_of(task))}
    if not wanted:
        return submitted
    freed = execute(cursor, free_celery_ids([(own, celery_id) for own, (_, celery_id) in wanted.items()]))
    again = [_repeating(wanted[UUID(new)][0], UUID(earlier)) for new, earlier in freed]
    if again:
        once_more = submit(cursor, again)
        submitted.ready.update(once_more.ready)
        submitted.others.update(once_more.others)
    return submitted


def _celery_id_of(task: NewTask) -> str | None:
    return None if task.options is None else task.options.celery_id


def _repeating(task: NewTask, earlier: UUID) -> NewTask:
    assert task.options is not None
    return task._replace(options=task.options._replace(rerun_of=earlier))
