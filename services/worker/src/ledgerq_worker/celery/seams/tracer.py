"""The *tracer*: Celery's own tracer runs every task; it is built with a marker around the task's body."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery, Task
from celery._state import _task_stack
from celery.app.trace import build_tracer, task_has_custom
from celery.canvas import _chain, _chord, group, maybe_signature

from ledgerq_worker.celery.run_options import keep_options_apart
from ledgerq_worker.slot import forks, legs, terminating


def tracer_of(app: Celery, task: Task, hostname: str) -> Callable[..., Any]:
    """Celery's tracer for ``task``, which marks the leg when the task's body is done."""
    body = task.run
    keep_options_apart(task)
    _refuse_compound_replacements(task)
    task.run = marked_body(task)
    try:
        return build_tracer(task.name, task, app.loader, hostname, app=app)  # type: ignore[no-any-return]
    finally:
        # In a task with its own __call__ (in a worker all tasks have Celery's), that method reaches the body through
        # the attribute; for all other tasks only the tracer calls the body.
        if not task_has_custom(task, "__call__"):
            task.run = body


def marked_body(task: Task) -> Callable[..., Any]:
    """The task's body, which tells its leg when it begins and when it is done."""
    body: Callable[..., Any] = task.run
    if getattr(body, "marks_leg", False):  # another slot of this process has marked it already
        return body

    @functools.wraps(body)
    def marked(*args: Any, **kwargs: Any) -> Any:
        leg = legs.current()
        if leg is None or leg.is_body_begun or leg.task.task_type != task.name:
            return body(*args, **kwargs)  # called by another task's body, or by its own
        leg.is_body_begun = True
        try:
            if leg.soft_limit is None:
                return body(*args, **kwargs)
            with leg.soft_limit:
                return body(*args, **kwargs)
        finally:
            leg.is_body_done = True
            if forks.happened:
                forks.leave()

    marked.marks_leg = True  # type: ignore[attr-defined]
    terminating.callers.add(marked.__code__)  # type: ignore[attr-defined]
    return marked


@contextlib.contextmanager
def balanced_stacks(task: Task) -> Iterator[None]:
    """Takes off Celery's stacks what an exception inside of Celery's tracer leaves there."""
    stacks = [(stack, len(stack.stack)) for stack in (_task_stack, task.request_stack)]
    try:
        yield
    finally:
        for stack, depth in stacks:
            while len(stack.stack) > depth:
                stack.pop()


class CompoundReplacement(Exception):
    """A task can be replaced by another task, but not by a chain, group or chord."""


def _refuse_compound_replacements(task: Task) -> None:
    """Refuse such replacements: Celery gives the running task's id to the last step of a compound, which would be sent
    when this task had long ended.
    """
    original = type(task).replace
    if getattr(original, "refuses_compounds", False):
        return

    @functools.wraps(original)
    def replace(self: Task, sig: Any) -> Any:
        if legs.current() is not None and isinstance(maybe_signature(sig), (_chain, group, _chord)):
            raise CompoundReplacement(
                f"self.replace: a {type(sig).__name__.strip('_')} cannot take the place of a task of the ledger; "
                "send it with apply_async() and return its id, or replace by a single task."
            )
        return original(self, sig)

    replace.refuses_compounds = True  # type: ignore[attr-defined]
    type(task).replace = replace
