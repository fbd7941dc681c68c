"""Exceptions of tasks that have ended, as values that outlive their process: the class by name, and its arguments.

The form is that of Celery's result backend. A client that has the class gets an exception of that class.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery.utils.serialization import UnpickleableExceptionWrapper, ensure_serializable

from ledgerq_shared.task_errors import TaskError
from ledgerq_worker.slot.encoding import celery_json, encode_celery, to_json

#: How many bytes of arguments are kept; of longer ones, this many characters of what Python shows.
_MOST = 64 * 1024


class TaskFailed(Exception):
    """A task's error in Celery's result backend, if nothing but its name and text is known."""


def keep(error: BaseException) -> dict[str, Any]:
    """An exception as JSON: ``exc_type``, ``exc_module`` and its arguments (``exc_message``). An argument that is not
    JSON is kept as Python shows it.
    """
    error = _for_others(error)
    if isinstance(error, UnpickleableExceptionWrapper):
        module, name, args = error.exc_module, error.exc_cls_name, error.exc_args
    else:
        module, name, args = type(error).__module__, type(error).__qualname__, error.args
    return {"exc_type": name, "exc_module": module, "exc_message": _kept(args)}


def _kept(args: Any) -> Any:
    try:
        kept = celery_json(ensure_serializable(args, encode_celery))
        return kept if len(to_json(kept)) <= _MOST else [repr(args)[:_MOST]]
    except Exception:  # an exception may have made anything of its arguments
        return []


def _for_others(error: BaseException) -> BaseException:
    """What others get: Celery says of a task that ends its process that its worker was lost. ``SystemExit`` would end the
    process of the client that asks for the result.
    """
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        lost: BaseException = WorkerLostError(f"The task ended with {type(error).__name__}: {error}")
        return lost
    return error


def rebuild(kept: dict[str, Any]) -> BaseException:
    """The exception of :func:`keep`: of its own class if this process has that, else of a class with the same name.

    No class is imported: the task's own module is here already.
    """
    module, name = str(kept["exc_module"]), str(kept["exc_type"])
    args = tuple(kept["exc_message"])
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        found = type(name, (TaskFailed,), {"__module__": module, "__qualname__": name})
    with contextlib.suppress(Exception):  # its own code
        made: BaseException = found(*args)
        if made.args == args:
            return made
    bare: BaseException = found.__new__(found, *args)  # `__init__` takes others than those that the exception shows
    bare.args = args
    return bare


def of_error(error: dict[str, Any], *, seconds: float | None) -> BaseException:
    """The exception for an error in the ledger that no exception of the task is kept for: mostly one that LedgerQ wrote.

    Args:
        seconds: the hard time limit that the task had exceeded; None if it had not.
    """
    kind, message = str(error.get("type") or "TaskFailed"), error.get("message")
    if kind == TaskError.TIME_LIMIT_EXCEEDED and seconds is not None:
        exceeded: BaseException = TimeLimitExceeded(int(seconds) if float(seconds).is_integer() else seconds)
        return exceeded
    if kind in _CELERYS:
        return _CELERYS[kind](message)
    return rebuild({"exc_type": kind, "exc_module": "ledgerq", "exc_message": [message]})


_CELERYS: dict[str, Callable[[object], BaseException]] = {
    TaskError.WORKER_LOST: WorkerLostError,
    TaskError.TASK_QUARANTINED: WorkerLostError,
    TaskError.TIME_LIMIT_EXCEEDED: TimeLimitExceeded,
    TaskError.SOFT_TIME_LIMIT_EXCEEDED: SoftTimeLimitExceeded,
}
#: Ends that are none of the task's own code, and of which therefore nobody has told the task's hooks.
UNTOLD = frozenset({TaskError.WORKER_LOST, TaskError.TASK_QUARANTINED, TaskError.TIME_LIMIT_EXCEEDED})
