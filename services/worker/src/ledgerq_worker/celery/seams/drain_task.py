"""The *drain task*: taken from the broker like any task, but invisible to signals, events and result backends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, Task
from celery.app.trace import trace_ok_t
from celery.worker.request import Request
from celery.worker.state import task_ready

from ledgerq_shared.broker import DRAIN_TASK, ticket_list

#: Runs a drain of one queue; set by the worker process.
Drain = Callable[[str], None]


def install_drain(app: Celery, drain: Drain, on_lost: Callable[[int | None], None]) -> None:
    """Register the task that tickets call.

    Args:
        drain: called for a ticket, in a pool process or thread.
        on_lost: called in the parent when a pool process died in a drain, with its pid (None if it is not known).
    """

    class DrainRequest(Request):
        """A ticket in the parent; its failure means that its pool process died."""

        def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
            # Does not call the parent class's method, which would fire task_failure and store a result for the drain.
            del send_failed_event, return_ok, exc_info
            task_ready(self)
            self.acknowledge()
            on_lost(self.worker_pid)

    class DrainTask(Task):
        """Work on one queue until it is empty or a while has passed."""

        name = DRAIN_TASK
        ignore_result = True
        acks_late = False
        send_events = False
        track_started = False
        time_limit = None
        soft_time_limit = None
        rate_limit = None
        Request = DrainRequest

        def run(self, queue: str) -> None:
            drain(queue)

        @property
        def __trace__(self) -> Callable[..., Any]:
            """Hides the attribute to which Celery assigns a tracer, which would send signals and store results for the
            drain.
            """
            return _trace_drain

        @__trace__.setter
        def __trace__(self, tracer: object) -> None:
            pass

    def _trace_drain(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        drain(*args)
        return trace_ok_t(None, None, 0.0, "")

    app.register_task(DrainTask())
    logging.getLogger("celery.worker.strategy").addFilter(_is_no_ticket)


def _is_no_ticket(record: logging.LogRecord) -> bool:
    """Whether a log record is about something other than a ticket: there are thousands of tickets, so "received" is
    logged for tasks only.
    """
    return getattr(record, "data", {}).get("name") != DRAIN_TASK


def queues_of_tickets(app: Celery, queues: Sequence[str]) -> list[str]:
    """The queues from which Celery's consumer takes messages: the lists of tickets, and nothing else."""
    names = [ticket_list(queue) for queue in queues]
    for name in names:
        # It has an exchange of its own, because the application's default exchange may be of another kind.
        app.amqp.queues.add(name, exchange=name, exchange_type="direct", routing_key=name)
    return names
