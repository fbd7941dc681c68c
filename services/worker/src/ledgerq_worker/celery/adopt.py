"""Adoption: a message that a plain Celery producer sent becomes a task of the ledger, and is then acknowledged.

It shares everything from there on: claim, run, record. While PostgreSQL is away the message stays unacknowledged and is
tried again; adopting it twice changes nothing, for it keeps its Celery id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, Task
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2

from ledgerq_shared.errors import Unavailable
from ledgerq_shared.faults import Fault
from ledgerq_shared.sqlstates import fault_of
from ledgerq_shared.statements.submit import NewTask
from ledgerq_worker.celery.messages import task_from_message
from ledgerq_worker.celery.sending import Submitter

log = structlog.get_logger()

_TRY_AGAIN_AFTER = 1.0


class Adoption:
    """Makes the strategy with which Celery's consumer handles messages of the users' tasks.

    Args:
        submitter: the way into the ledger.
        actor: who submits, for the event log.
    """

    def __init__(self, submitter: Submitter, *, actor: str) -> None:
        self._submitter = submitter
        self._actor = actor

    def strategy(self, task: Task, app: Celery, consumer: Any, **_: Any) -> Callable[..., None]:
        """Celery's ``Task.Strategy`` for one task type."""

        def handle(
            message: Any, body: Any, ack: Callable[..., None], reject: Callable[..., None], *_: Any, **__: Any
        ) -> None:
            try:
                new = self._parsed(task, app, message, body)
            except Exception as error:  # whatever a stranger may have put into a message
                refuse(error, reject)
            else:
                adopt(new, ack, reject)

        def adopt(new: NewTask, ack: Callable[..., None], reject: Callable[..., None]) -> None:
            try:
                self._submitter.submit(new)
            except Unavailable as error:
                log.warning("worker.message.not_adopted_yet", task_type=task.name, error=error.detail)
                consumer.timer.call_after(_TRY_AGAIN_AFTER, adopt, (new, ack, reject))
            except Exception as error:
                if fault_of(error) is Fault.REFUSE:
                    refuse(error, reject)  # the ledger cannot hold it: it must not end the worker, again and again
                else:  # nothing that is in the message is to blame
                    log.error("worker.message.not_adopted_yet", task_type=task.name, error=str(error).strip())
                    consumer.timer.call_after(_TRY_AGAIN_AFTER, adopt, (new, ack, reject))
            else:
                ack(log, consumer.connection_errors)

        def refuse(error: Exception, reject: Callable[..., None]) -> None:
            log.error("worker.message.refused", task_type=task.name, error=f"{type(error).__name__}: {error}")
            reject(log, consumer.connection_errors)

        return handle

    def _parsed(self, task: Task, app: Celery, message: Any, body: Any) -> NewTask:
        if body is None and "args" not in message.payload:
            body, headers = message.payload, message.headers
        elif "args" in message.payload:
            body, headers, *_ = hybrid_to_proto2(message, message.payload)
        else:
            body, headers, *_ = proto1_to_proto2(message, body)
        queue = (message.delivery_info or {}).get("routing_key") or app.conf.task_default_queue
        # Kombu writes 0 where no priority was given, so in a message 0 means "the usual".
        properties = {**(message.properties or {}), "priority": (message.properties or {}).get("priority") or None}
        return task_from_message(
            task.name, headers, properties, body, queue=queue, actor=self._actor, timezone=app.timezone
        )
