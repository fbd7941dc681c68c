"""Which tasks must not run a second time when their worker dies, if they came as Celery messages: Celery has then
acknowledged the message, and nobody delivers it again.
"""

from __future__ import annotations

from typing import Literal

from celery import Celery, Task

#: What decides: the application, as in Celery; or one answer for all of its tasks.
OnWorkerLost = Literal["celery", "rerun", "fail"]
#: Celery's own tasks that run the users' code. Its others are steps of a workflow, which stands still without them.
_USERS_CODE = ("celery.map", "celery.starmap", "celery.chunks")


def acknowledged_types(app: Celery, chosen: OnWorkerLost) -> list[str]:
    """The names of these task types. A type that declares ``on_worker_lost`` is not among them: that counts then, however
    a task came.
    """
    if chosen == "rerun":
        return []
    return sorted(name for name, task in app.tasks.items() if _is_the_users(name) and _is_gone(task, chosen))


def _is_the_users(name: str) -> bool:
    return not name.startswith(("celery.", "ledgerq.")) or name in _USERS_CODE


def _is_gone(task: Task, chosen: OnWorkerLost) -> bool:
    if getattr(task, "on_worker_lost", None):
        return False
    # Celery puts the message back only if it is acknowledged late and rejected then, or sends it again.
    comes_back = (task.acks_late and task.reject_on_worker_lost) or getattr(task, "retry_on_worker_lost", False)
    return chosen == "fail" or not comes_back
