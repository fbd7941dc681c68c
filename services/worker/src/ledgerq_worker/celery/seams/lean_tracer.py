"""A shorter way through a task's body, for tasks for which Celery's tracer would only call the body.

Half of a short task's cost in Celery's tracer is spent on questions whose answer is no: are there custom hooks, signal
receivers, callbacks, chains, deduplication, cleanups? Here they are asked once for each task type
(:func:`lean_tracer_of`). Questions that depend on the single task, or whose answer may change while the worker runs,
are asked each time, by the runner. If any answer is yes, Celery's own tracer runs the task. Exceptions of the body go
to Celery's own handlers here, too, so errors, retries, logs and the failure signals are Celery's.
``tests/contract/test_lean_tracer.py`` compares the two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery, Task, signals
from celery._state import _task_stack
from celery.app import trace as celery_trace
from celery.app.task import Context
from celery.app.trace import TraceInfo, task_has_custom, traceback_clear
from celery.backends.base import Backend
from celery.exceptions import Ignore, Reject, Retry
from celery.loaders.base import BaseLoader
from celery.utils.threads import _LocalStack

from ledgerq_worker.catalogue.wrappers import has_own_call
from ledgerq_worker.celery.seams.tracer import marked_body
from ledgerq_worker.slot.encoding import from_the_tasks_code
from ledgerq_worker.slot.legs import Leg

#: Runs a leg's body with ``(leg, args, kwargs, request)``; returns Celery's information about an end that is not a
#: success, else None.
LeanTracer = Callable[[Leg, Any, Any, dict[str, Any]], TraceInfo | None]

_HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")
_prerun, _postrun, _success = signals.task_prerun, signals.task_postrun, signals.task_success
_logger = logging.getLogger("celery.app.trace")


def is_anybody_listening() -> bool:
    """Whether somebody listens to each task: a signal's receiver, or a log handler that would show Celery's line for
    each success.
    """
    if _prerun.receivers or _postrun.receivers or _success.receivers:
        return True
    return _logger.isEnabledFor(logging.INFO) and _are_successes_written()


class _NoSuccesses(logging.Filter):
    """The filter of a handler that leaves out Celery's line for each success, and what called a task's code from the
    traceback of a failure.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name != _logger.name:
            return True
        if record.exc_info and record.exc_info[1] is not None:
            kind, error, _ = record.exc_info
            record.exc_info = kind, error, from_the_tasks_code(error)
        return bool(record.msg != celery_trace.LOG_SUCCESS)


_no_successes = _NoSuccesses()


def leave_out_successes() -> None:
    """Let the handlers that exist now leave out Celery's line for each success, whichever tracer runs a task.

    That line costs more than a short task, and it shows the beginning of the result. The recorder logs a line for each
    batch, once the ledger has it. Handlers and filters that the users add still get Celery's line.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(_no_successes)


def _are_successes_written() -> bool:
    """Whether any handler or filter would see the line. It is asked for each task, so it uses no generators."""
    if _logger.filters:
        return True
    logger: logging.Logger | None = _logger
    while logger is not None:
        for handler in logger.handlers:
            if type(handler) is not logging.NullHandler and _no_successes not in handler.filters:
                return True
        logger = logger.parent if logger.propagate else None
    return False


def lean_tracer_of(app: Celery, task: Task) -> LeanTracer | None:
    """The shorter way for ``task``; None if Celery's tracer would do more for it than call its body."""
    if not _is_plain(app, task):
        return None
    body, is_kept = marked_body(task), not task.ignore_result
    push_task, pop_task = _quick(_task_stack)
    push_request, pop_request = _quick(task.request_stack)

    def trace(leg: Leg, args: Any, kwargs: Any, request: dict[str, Any]) -> TraceInfo | None:
        context = _LeanContext(request, args, kwargs)
        push_task(task)
        push_request(context)
        try:
            leg.succeed(body(*args, **kwargs), context, is_kept=is_kept)
        except Exception as error:
            return _handle(task, context, error)
        else:
            return None
        finally:
            pop_task()
            pop_request()

    return trace


def _is_plain(app: Celery, task: Task) -> bool:
    loader, backend = type(app.loader), type(app.backend)
    return not (
        has_own_call(task)
        or any(task_has_custom(task, hook) for hook in _HOOKS)
        or task.track_started
        or app.conf.worker_deduplicate_successful_tasks
        or loader.on_task_init is not BaseLoader.on_task_init
        or loader.on_process_cleanup is not BaseLoader.on_process_cleanup
        or backend.process_cleanup is not Backend.process_cleanup
    )


def _quick(stack: Any) -> tuple[Callable[[Any], Any], Callable[[], Any]]:
    """``push`` and ``pop`` of one of Celery's stacks, without the five attribute look-ups in Python.

    Usually the running task is alone on the stack, and Celery keeps no stack for a thread whose stack is empty.
    """
    if type(stack) is not _LocalStack:
        return stack.push, stack.pop
    storage, ident_of = stack._local.__storage__, stack.__ident_func__  # noqa: SLF001

    def push(item: Any) -> None:
        ident = ident_of()
        if ident in storage:
            stack.push(item)
        else:
            storage[ident] = {"stack": [item]}

    def pop() -> None:
        ident = ident_of()
        if ident in storage and len(storage[ident]["stack"]) == 1:
            del storage[ident]
        else:
            stack.pop()

    return push, pop


class _LeanContext(Context):
    """Celery's request, without its search for custom headers, because there are none.

    Celery's worker sets ``_protected`` when the body begins: if a body then calls its own task, that is not the start
    of a task.
    """

    def __init__(self, request: dict[str, Any], args: Any, kwargs: Any) -> None:
        request["args"], request["kwargs"] = args, kwargs
        request["called_directly"], request["_protected"] = False, 1
        request["time_limit"], request["soft_time_limit"] = request["timelimit"]
        self.__dict__ = request


def _handle(task: Task, context: Context, error: Exception) -> TraceInfo:
    """Do what Celery's tracer does with an exception of the body, or of its result; called while the exception is being
    handled.
    """
    if isinstance(error, Reject):
        info = TraceInfo("REJECTED", error)
        info.handle_reject(task, context)
    elif isinstance(error, Ignore):
        info = TraceInfo("IGNORED", error)
        info.handle_ignore(task, context)
    elif isinstance(error, Retry):
        info = TraceInfo("RETRY", error)
        info.handle_error_state(task, context, call_errbacks=False)
    else:
        info = TraceInfo("FAILURE", error)
        info.handle_error_state(task, context)
    traceback_clear(error)
    return info
