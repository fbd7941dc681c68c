"""What a task's hooks and signals hear of a *failure* that Celery's tracer has not seen: the process is gone, or was
killed.

In Celery the parent process of the pool calls them; here it is the process that empties the outbox. They are the users'
code, so none of them keeps another from being called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import structlog
from billiard.einfo import ExceptionInfo
from celery import Task, signals
from celery._state import _task_stack
from celery.app.task import Context
from celery.exceptions import Reject
from celery.states import FAILURE

log = structlog.get_logger()


def tell_failure(task: Task, request: Context, error: BaseException) -> None:
    """Call ``on_failure`` and ``after_return`` of ``task``, and send ``task_failure``. ``self.request`` is ``request``
    meanwhile. Of a message that the task rejected only the signal tells, as in Celery.
    """
    try:
        _throw(error)
    except BaseException:  # to be handled is all that Celery's information is made of
        info = ExceptionInfo()
    ran = request.id, request.args, request.kwargs
    _task_stack.push(task)
    task.request_stack.push(request)
    try:
        if not isinstance(error, Reject):
            _call(task.on_failure, error, *ran, info)
            _call(task.after_return, FAILURE, error, *ran, info)
        signals.task_failure.send(
            sender=task, task_id=request.id, exception=error, args=request.args, kwargs=request.kwargs,
            traceback=error.__traceback__, einfo=info,
        )  # fmt: skip
    finally:
        task.request_stack.pop()
        _task_stack.pop()


def _throw(error: BaseException) -> NoReturn:
    raise error


def _call(hook: Callable[..., Any], *args: Any) -> None:
    try:
        hook(*args)
    except Exception:
        log.exception("outbox.hook_failed", hook=hook.__qualname__)
