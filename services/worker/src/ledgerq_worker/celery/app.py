"""Builds the Celery application of a worker: the users' own if there is one, changed so that it keeps its outcomes for
the ledger.

A module that makes its own ``Celery()`` makes it the current application on import, so the worker must *use* an
existing application.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from celery import Celery

from ledgerq_shared.redis_access import celery_broker, celery_result_backend
from ledgerq_shared.settings import SettingsError, StoreSettings
from ledgerq_worker.catalogue.task_modules import load_task_modules, make_importable, module_names

#: Time limits of the pool, which are removed from it: they are meant for the tasks inside the drains.
_POOL_LIMITS = ("task_time_limit", "task_soft_time_limit")

#: A connection to Redis that is silent for this many seconds is given up: a host, a NAT or a load balancer in between
#: may have forgotten it, and neither end knows. With Celery's own values, a worker is deaf for up to 51 s, and a slot
#: that sends a result waits for 120 s.
_REDIS_SILENCE = 3.0
#: How Celery's backend tries again to store a result: once. With its own twenty tries, a slot waits for minutes.
_RESULT_RETRIES = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


def build_app(
    stores: StoreSettings,
    *,
    celery_app: str | None,
    task_modules: str,
    default_queue: str,
    check: Callable[[Celery], None] | None = None,
) -> Celery:
    """The Celery application with all task modules imported.

    Args:
        check: looks at an existing application's own settings, and may refuse them.

    Raises:
        SettingsError: ``LEDGERQ_CELERY_APP`` does not name a Celery application, or ``check`` refuses it.
        TaskModuleError: a task module cannot be imported.
    """
    if celery_app:
        app = _existing(celery_app)
        if check is not None:
            check(app)
    else:
        app = Celery("ledgerq")
        app.conf.update(
            task_default_queue=default_queue,
            result_expires=86_400,
            enable_utc=True,
            timezone="UTC",
            result_extended=False,
        )
        app.set_default()
    broker = celery_broker(stores.broker_url)
    app.conf.update(
        broker_url=broker["broker_url"],
        broker_transport_options=(app.conf.broker_transport_options or {}) | broker["broker_transport_options"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        result_serializer="json",
    )
    if not celery_app or app.conf.result_backend is None:
        backend = celery_result_backend(stores.result_backend)
        app.conf.result_backend = backend["result_backend"]
        app.conf.result_backend_transport_options = (app.conf.result_backend_transport_options or {}) | backend[
            "result_backend_transport_options"
        ]
    _bound_waits(app)
    app.set_current()
    load_task_modules(module_names(task_modules), examples=True)
    app.loader.import_default_modules()
    app.finalize()
    return app


def _bound_waits(app: Celery) -> None:
    """Make sure that nothing waits long for a silent Redis: what must not be lost is in the ledger, and is tried again
    from there.
    """
    waits = {"socket_timeout": _REDIS_SILENCE, "socket_connect_timeout": _REDIS_SILENCE}
    # Celery uses an application's own value; a larger value, or none, is cut off here.
    silence = min(app.conf.redis_socket_timeout or _REDIS_SILENCE, _REDIS_SILENCE)
    app.conf.update(
        broker_transport_options={
            "health_check_interval": _REDIS_SILENCE,
            **waits,
            **(app.conf.broker_transport_options or {}),
        },
        redis_socket_timeout=silence,
        redis_socket_connect_timeout=min(app.conf.redis_socket_connect_timeout or silence, silence),
        result_backend_transport_options={
            "retry_policy": _RESULT_RETRIES,
            **(app.conf.result_backend_transport_options or {}),
        },
    )


def limits_belong_to_tasks(app: Celery) -> None:
    """Make Celery's global time limits those of each task that has none: as limits of the pool they would kill
    drains.
    """
    hard, soft = (app.conf.get(name) for name in _POOL_LIMITS)
    for task in app.tasks.values():
        if not task.name.startswith("ledgerq."):
            task.time_limit = hard if task.time_limit is None else task.time_limit
            task.soft_time_limit = soft if task.soft_time_limit is None else task.soft_time_limit
    app.conf.update(dict.fromkeys(_POOL_LIMITS))


def _existing(path: str) -> Celery:
    make_importable(Path.cwd())
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise SettingsError(
            "LEDGERQ_CELERY_APP: importing {module_name!r} failed: {error}", module_name=module_name, error=error
        ) from error
    found = getattr(module, attribute or "app", None)
    if not isinstance(found, Celery):
        raise SettingsError(
            "LEDGERQ_CELERY_APP: {path!r} is not a Celery application (expected package.module:app)", path=path
        )
    return found
