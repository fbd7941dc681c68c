"""If a run changes its task's options, the change applies to that run only.

Celery has one object for all runs of a task in a process, and ``self.retry(max_retries=6)`` or ``self.max_retries = 6``
changes that object: in Celery, the next run has 6 retries, too. Here such an option belongs to the leg that sets it.
Other attributes that users keep on a task (a connection, a cache) stay there, as in Celery. An option costs nothing
until a run sets it.
"""

from __future__ import annotations

import inspect
from typing import Any

from celery import Task

from ledgerq_worker.slot import legs

#: Options that Celery reads while a task runs, or when the task sends its next run.
OPTIONS = frozenset(
    {
        "max_retries", "override_max_retries", "default_retry_delay", "rate_limit", "ignore_result", "trail", "send_events",
        "store_errors_even_if_ignored", "serializer", "compression", "time_limit", "soft_time_limit", "track_started",
        "throws", "expires", "priority", "queue", "routing_key", "exchange", "delivery_mode", "immediate", "mandatory",
        "typing", "resultrepr_maxsize", "acks_late", "acks_on_failure_or_timeout", "acks_on_failure", "acks_on_timeout",
        "reject_on_worker_lost", "retry_on_worker_lost", "on_worker_lost",
        "_exec_options",  # Celery's cache of the options that it sends with
    }
)  # fmt: skip

_ABSENT: Any = object()


class _OfTheRun:
    """An option on a task's class: the running leg's own value, else the value that the task was submitted with, else
    the task's.
    """

    def __init__(self, name: str, default: Any) -> None:
        self._name = name
        self._default = default

    def __get__(self, task: Task | None, owner: type | None = None) -> Any:
        value = self._default if task is None else self._value(task)
        if value is _ABSENT:
            raise AttributeError(self._name)
        return value

    def __set__(self, task: Task, value: Any) -> None:
        leg = _leg_of(task)
        if leg is None:
            vars(task)[self._name] = value
            return
        if leg.options is None:
            leg.options = {}
        leg.options[self._name] = value

    def __delete__(self, task: Task) -> None:
        if _leg_of(task) is not None:
            self.__set__(task, _ABSENT)
        elif vars(task).pop(self._name, _ABSENT) is _ABSENT:
            raise AttributeError(self._name)

    def _value(self, task: Task) -> Any:
        leg = _leg_of(task)
        if leg is not None:
            if leg.options is not None and self._name in leg.options:
                return leg.options[self._name]
            if self._name == "max_retries" and leg.task.max_retries is not None:
                return leg.task.max_retries
        return vars(task).get(self._name, self._default)


def keep_options_apart(task: Task) -> None:
    """From now on, an option that a run of ``task`` sets belongs to that run; at first ``max_retries`` is the value
    that the task was submitted with.
    """
    _let_runs_have_their_own(type(task), "max_retries")
    set_plainly: Any = type(task).__setattr__
    if getattr(set_plainly, "keeps_options_apart", False):
        return

    def __setattr__(self: Task, name: str, value: Any) -> None:  # noqa: N807
        if name in OPTIONS and _leg_of(self) is not None:
            _let_runs_have_their_own(type(self), name)
        set_plainly(self, name, value)

    __setattr__.keeps_options_apart = True  # type: ignore[attr-defined]
    type(task).__setattr__ = __setattr__  # type: ignore[assignment]


def _let_runs_have_their_own(owner: type, name: str) -> None:
    default = inspect.getattr_static(owner, name, _ABSENT)
    if not isinstance(default, _OfTheRun):
        setattr(owner, name, _OfTheRun(name, default))


def _leg_of(task: Task) -> legs.Leg | None:
    leg = legs.current()
    return leg if leg is not None and leg.task.task_type == task.name else None
