"""The *message sender*: inside a worker, messages for ledger tasks become rows of the ledger."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP

#: Takes a message that Celery is about to send: ``(name, headers, properties, body, queue, send_natively)``.
Sender = Callable[..., Any]


def install_sender(app: Celery, sender: Sender) -> None:
    """Pass every message that the application is about to send to ``sender`` first."""

    class LedgerAMQP(AMQP):
        """Celery's message factory, changed so that messages go through our sender."""

        def as_task_v2(
            self,
            task_id: str,
            name: str,
            args: Any = None,
            kwargs: Any = None,
            countdown: Any = None,
            *rest: Any,
            **more: Any,
        ) -> Any:
            """Celery turns a countdown into a time by this machine's clock; keep the countdown, because the ledger has
            a clock of its own.
            """
            message = super().as_task_v2(task_id, name, args, kwargs, countdown, *rest, **more)
            if countdown:
                message.headers["countdown"] = float(countdown)
            return message

        @functools.cached_property
        def send_task_message(self) -> Callable[..., Any]:
            natively = self._create_task_sender()

            def send(producer: Any, name: str, message: Any, **options: Any) -> Any:
                return sender(name, message, options, functools.partial(natively, producer, name, message, **options))

            return send

    app.amqp = LedgerAMQP(app)


def queue_of(app: Celery, options: dict[str, Any]) -> str:
    """The queue that a message with these sending options goes to."""
    queue = options.get("queue")
    if queue is not None:
        return str(getattr(queue, "name", queue))
    return str(options.get("routing_key") or app.conf.task_default_queue)
