"""The catalogue of task types that a Celery application offers."""

import inspect
from dataclasses import dataclass
from typing import Any

from celery import Celery, Task
from celery.app.routes import Router

from ledgerq_shared.languages import SaidError
from ledgerq_worker.catalogue.parameters import parameters_schema, plain_function
from ledgerq_worker.catalogue.wrappers import has_own_call

# Celery's own (celery.chord, celery.backend_cleanup …) and ours (ledgerq.drain) are not for submitting.
_INTERNAL = ("celery.", "ledgerq.")
_ON_WORKER_LOST = ("rerun", "fail")


class TaskTypeError(SaidError):
    """A task is declared with an option that has no meaning; the text is one line that names the task and the
    option.
    """


@dataclass(frozen=True, slots=True)
class TaskTypeSpec:
    """One task type as it goes into the catalogue.

    Attributes:
        name: the dotted name under which it is submitted.
        doc: the doc string, dedented; empty when there is none.
        parameters_schema: JSON Schema (2020-12) of the keyword arguments.
        queue: where Celery would send it when the caller names no queue.
        options: `max_retries` (None: without end), `time_limit` and `soft_time_limit` (seconds; None: none),
            `on_worker_lost` (`rerun` or `fail`), `ignore_result`, `rate_limit` (such as `10/m`; None: none),
            `priority` (None: the default).
    """

    name: str
    doc: str
    parameters_schema: dict[str, Any]
    queue: str
    options: dict[str, Any]


def task_types(app: Celery) -> list[TaskTypeSpec]:
    """Every task type of `app` that users may submit, by name. Finalizes the app.

    Raises:
        TaskTypeError: a task has an unknown `on_worker_lost`.
    """
    names = sorted(name for name in app.tasks if not name.startswith(_INTERNAL))
    # Routing declares each queue that it meets, and a worker consumes from all declared queues: so use a set of our
    # own.
    router = app.amqp.Router(queues=app.amqp.Queues(app.conf.task_queues))
    return [_task_type(app, app.tasks[name], router) for name in names]


def _task_type(app: Celery, task: Task, router: Router) -> TaskTypeSpec:
    return TaskTypeSpec(
        name=task.name,
        doc=_doc(task),
        parameters_schema=parameters_schema(task.run, task.__call__ if has_own_call(task) else None),
        queue=_queue(app, task, router),
        options=_options(app, task),
    )


def _doc(task: Task) -> str:
    # vars, not getattr: a task without a doc string would inherit that of Celery's Task.
    own = vars(type(task)).get("__doc__") or plain_function(task.run).__doc__
    return inspect.cleandoc(own or "")


def _queue(app: Celery, task: Task, router: Router) -> str:
    """As `apply_async` decides: the task's own queue, then `task_routes`, then the default."""
    own = getattr(task, "queue", None)
    fallback = str(own or app.conf.task_default_queue)
    try:
        route = router.route({"queue": own} if own else {}, task.name, args=(), kwargs={}, task_type=task)
    except Exception:
        return fallback
    queue = route.get("queue") or fallback
    return str(getattr(queue, "name", queue))


def _options(app: Celery, task: Task) -> dict[str, Any]:
    conf = app.conf
    return {
        "max_retries": task.max_retries,
        "time_limit": _first_set(task.time_limit, conf.task_time_limit),
        "soft_time_limit": _first_set(task.soft_time_limit, conf.task_soft_time_limit),
        "on_worker_lost": _on_worker_lost(task),
        "ignore_result": bool(_first_set(task.ignore_result, conf.task_ignore_result)),
        "rate_limit": _first_set(task.rate_limit, conf.task_default_rate_limit),
        "priority": _first_set(getattr(task, "priority", None), conf.task_default_priority),
    }


def _first_set(own: Any, configured: Any) -> Any:
    return configured if own is None else own


def _on_worker_lost(task: Task) -> str:
    chosen = getattr(task, "on_worker_lost", None) or "rerun"
    if chosen not in _ON_WORKER_LOST:
        raise TaskTypeError(
            "{name}: on_worker_lost is {chosen!r}, it must be 'rerun' or 'fail'", name=task.name, chosen=chosen
        )
    return str(chosen)
