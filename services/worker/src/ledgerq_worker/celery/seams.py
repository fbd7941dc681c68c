"""Everything that touches Celery's half-public parts, in one module, so that a new Celery fails one contract test.

Five seams:

- the *tracer*: Celery's own runs every task; it is built with a marker around the task's body;
- the *result backend*: inside a leg, marking a task as done or failed is kept in the leg;
- the *message sender*: inside a worker, messages for ledger tasks become rows of the ledger;
- the *events*: who publishes learns how many have received them;
- the *drain task*: taken from the broker like any task, but invisible to signals, events and result backends.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from celery import Celery, Task
from celery._state import _task_stack
from celery.app.amqp import AMQP
from celery.app.backends import by_url
from celery.app.task import get_actual_ignore_result
from celery.app.trace import build_tracer, task_has_custom, trace_ok_t
from celery.backends.base import Backend
from celery.canvas import _chain, _chord, group, maybe_signature
from celery.events.event import get_exchange
from celery.exceptions import SoftTimeLimitExceeded
from celery.worker.request import Request
from celery.worker.state import task_ready
from kombu import Producer  # type: ignore[attr-defined]
from kombu.transport.redis import Channel as RedisChannel
from kombu.utils.json import dumps

from ledgerq_shared.broker import DRAIN_TASK, ticket_list
from ledgerq_shared.states import State
from ledgerq_worker.celery.run_options import keep_options_apart
from ledgerq_worker.slot import forks, legs
from ledgerq_worker.slot.encoding import describe_error, original_of, to_json
from ledgerq_worker.slot.limits import StruckWhileEncoding

#: Runs a drain of one queue; set by the worker process.
Drain = Callable[[str], None]
#: Takes a message that Celery is about to send: ``(name, headers, properties, body, queue, send_natively)``.
Sender = Callable[..., Any]


def tracer_of(app: Celery, task: Task, hostname: str) -> Callable[..., Any]:
    """Celery's tracer for ``task``, which marks the leg when the task's body is done."""
    body = task.run
    keep_options_apart(task)
    _refuse_compound_replacements(task)
    task.run = marked_body(task)
    try:
        return build_tracer(task.name, task, app.loader, hostname, app=app)  # type: ignore[no-any-return]
    finally:
        # A task with its own __call__ (in a worker all have Celery's) reaches the body through the attribute; all others
        # through the tracer alone.
        if not task_has_custom(task, "__call__"):
            task.run = body


def marked_body(task: Task) -> Callable[..., Any]:
    """The task's body, which tells its leg when it begins and when it is done."""
    body: Callable[..., Any] = task.run
    if getattr(body, "marks_leg", False):  # another slot of this process has come first
        return body

    @functools.wraps(body)
    def marked(*args: Any, **kwargs: Any) -> Any:
        leg = legs.current()
        if leg is None or leg.is_body_begun or leg.task.task_type != task.name:
            return body(*args, **kwargs)  # called by another body, or by its own
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
    return marked


@contextlib.contextmanager
def balanced_stacks(task: Task) -> Iterator[None]:
    """What an exception inside of Celery's tracer leaves on its stacks is taken off again."""
    stacks = [(stack, len(stack.stack)) for stack in (_task_stack, task.request_stack)]
    try:
        yield
    finally:
        for stack, depth in stacks:
            while len(stack.stack) > depth:
                stack.pop()


class CompoundReplacement(Exception):
    """A task can be replaced by another task, not by a chain, group or chord."""


def _refuse_compound_replacements(task: Task) -> None:
    """Celery gives the running id to the last step of a compound, which would be sent when this task had long ended."""
    celerys = type(task).replace
    if getattr(celerys, "refuses_compounds", False):
        return

    @functools.wraps(celerys)
    def replace(self: Task, sig: Any) -> Any:
        if legs.current() is not None and isinstance(maybe_signature(sig), (_chain, group, _chord)):
            raise CompoundReplacement(
                f"self.replace: a {type(sig).__name__.strip('_')} cannot take the place of a task of the ledger; "
                "send it with apply_async() and return its id, or replace by a single task."
            )
        return celerys(self, sig)

    replace.refuses_compounds = True  # type: ignore[attr-defined]
    type(task).replace = replace


class _KeepsOutcomes(Backend):
    """Over the application's own result backend: while a leg runs, its outcomes are kept in the leg."""

    is_ledger_backend = True

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = "SUCCESS"
    ) -> None:
        leg = _own_leg(task_id)
        if leg is None:
            super().mark_as_done(task_id, result, request, store_result, state)
            return
        is_kept = not get_actual_ignore_result(self.app.tasks[leg.task.task_type], request)
        leg.succeed(result, request, is_kept=is_kept)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = "FAILURE",
    ) -> None:
        leg = _own_leg(task_id)
        if leg is None:
            super().mark_as_failure(task_id, exc, traceback, request, store_result, call_errbacks, state)
            return
        # Called while the tracer handles what was raised. The ledger keeps that, whatever pickle can hold.
        raised = original_of(exc, sys.exc_info()[1])
        if isinstance(exc, StruckWhileEncoding):
            raised = exc = SoftTimeLimitExceeded(*exc.args)
        leg.state, leg.request, leg.exception = State.FAILURE, request, exc
        leg.result, leg.error = None, to_json(describe_error(raised, str(traceback or "") if raised is exc else None))
        leg.is_result_published = store_result
        # What the tracer sent for a success that then could not be stored is not to leave.
        leg.follow_ups.clear()
        leg.messages.clear()

    def mark_as_retry(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> Any:
        if _own_leg(task_id) is None:
            return super().mark_as_retry(task_id, exc, *args, **kwargs)
        return None

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        leg = _own_leg(task_id)
        if leg is None or state != State.STARTED:
            return super().store_result(task_id, result, state, traceback, request, **kwargs)
        # `track_started`: leaves with the ledger's own STARTED, for Redis may be away and the claim superseded.
        leg.request, leg.start = request, result
        return result

    def on_task_call(self, producer: Any, task_id: str) -> None:
        if legs.current() is None:
            super().on_task_call(producer, task_id)


def install_backend(app: Celery) -> None:
    """Replace the application's result backend by one that keeps outcomes in the running leg."""
    base, url = by_url(app.backend_cls or app.conf.result_backend, app.loader)
    if getattr(base, "is_ledger_backend", False):
        return

    class LedgerBackend(_KeepsOutcomes, base):  # type: ignore[misc, valid-type]
        """The application's own backend, except while a leg runs."""

        def __init__(self, app: Celery, url: str | None = None, **kwargs: Any) -> None:
            super().__init__(app=app, url=url or _url, **kwargs)

    _url = url
    app.backend_cls = LedgerBackend
    # Drop the instance that may have been made before.
    app._backend_cache = None  # noqa: SLF001
    app._local.backend = None  # noqa: SLF001


def _own_leg(task_id: str) -> legs.Leg | None:
    leg = legs.current()
    return leg if leg is not None and leg.celery_id == task_id else None


def install_sender(app: Celery, sender: Sender) -> None:
    """Give every message that the application is about to send to ``sender`` first."""

    class LedgerAMQP(AMQP):
        """Celery's message factory with our way out."""

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
            """Celery turns a countdown into a time by this machine's clock; keep it, for the ledger has its own clock."""
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


class EventPublisher:
    """Sends Celery's events over a connection of its own, made by the process that uses it.

    Celery's own dispatcher does not say whether anybody listens.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._pid = 0
        self._receivers = 0

    def publish(self, events: dict[str, Any] | list[dict[str, Any]], routing_key: str) -> int:
        """Send one event or a batch; how many have received it.

        Raises:
            Exception: Redis is away, in one of the transport's many ways.
        """
        if self._pid != os.getpid():
            self._connect()
        self._receivers = 0
        try:
            self._producer.publish(events, routing_key=routing_key, exchange=self._exchange.name, delivery_mode=1)  # type: ignore[no-untyped-call]
        except Exception:
            self._pid = 0  # the next time over a new connection
            raise
        return self._receivers

    def _connect(self) -> None:
        connection = self._app.connection_for_write()
        channel = connection.default_channel
        self._exchange = get_exchange(connection, name=self._app.conf.event_exchange)

        def put_fanout(exchange: str, message: Any, routing_key: str, **_: Any) -> None:
            payload = dumps(message)  # type: ignore[no-untyped-call]
            with channel.conn_or_acquire() as client:
                for topic in channel._get_publish_topics(exchange, routing_key):  # noqa: SLF001
                    self._receivers += int(client.publish(topic, payload))

        channel._put_fanout = put_fanout  # noqa: SLF001
        self._exchange(channel).declare()
        serializer = self._app.conf.event_serializer
        self._producer = Producer(channel, serializer=serializer, auto_declare=False)  # type: ignore[no-untyped-call]
        self._pid = os.getpid()


def queue_of(app: Celery, options: dict[str, Any]) -> str:
    """The queue that a message with these sending options goes to."""
    queue = options.get("queue")
    if queue is not None:
        return str(getattr(queue, "name", queue))
    return str(options.get("routing_key") or app.conf.task_default_queue)


def install_drain(app: Celery, drain: Drain, on_lost: Callable[[int | None], None]) -> None:
    """Register the task that tickets call.

    Args:
        drain: what a ticket does, in a pool process or thread.
        on_lost: told in the parent when a pool process died in a drain, with its pid (null if it is not known).
    """

    class DrainRequest(Request):
        """A ticket in the parent; its failure means that its pool process died."""

        def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
            # Not the parent class's: that would fire task_failure and store a result for the drain.
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
            """Celery assigns a tracer here, which would send signals and store results for the drain."""
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
    """Tickets come and go by the thousand: "received" is said of tasks only."""
    return getattr(record, "data", {}).get("name") != DRAIN_TASK


def tell_of_errors(consumer: Any, tell: Callable[[], None]) -> None:
    """Call ``tell`` whenever Celery's consumer meets an error of the broker's and is about to connect anew."""
    for name in ("on_connection_error_before_connected", "on_connection_error_after_connected"):
        celerys: Callable[[Exception], None] = getattr(consumer, name)

        def told(error: Exception, celerys: Callable[[Exception], None] = celerys) -> None:
            tell()
            celerys(error)

        setattr(consumer, name, told)


def hang_up(consumer: Any) -> None:
    """Shut the sockets down through which Celery's consumer hears of messages: its loop meets an error and connects anew.

    From any thread; whatever state the loop or the connection is in.
    """
    connection = consumer.connection
    for channel in list(getattr(connection.transport, "channels", ()) if connection else ()):
        for name in ("client", "subclient"):
            # Cached properties: what has not been made is not to be made now.
            client = vars(channel).get(name)
            taken = getattr(getattr(client, "connection", None), "_sock", None)
            if taken is not None:
                with contextlib.suppress(OSError):
                    taken.shutdown(socket.SHUT_RDWR)


def let_channels_close() -> None:
    """A channel whose transport is gone cannot return what was not acknowledged, and is not to try when it is closed.

    kombu 5.7 does, now and then when Redis goes away: an AttributeError that ends Celery's consumer for good, while the
    process lives on. What was not acknowledged stays in Redis, and is delivered again after its visibility timeout.
    """
    celerys: Callable[..., None] = RedisChannel.close
    if getattr(celerys, "knows_when_not_to_restore", False):
        return

    @functools.wraps(celerys)
    def close(self: Any) -> None:
        if getattr(self.connection, "client", None) is None:
            self.do_restore = False
        celerys(self)

    close.knows_when_not_to_restore = True  # type: ignore[attr-defined]
    RedisChannel.close = close  # type: ignore[method-assign]


def queues_of_tickets(app: Celery, queues: Sequence[str]) -> list[str]:
    """The queues that Celery's consumer is to take messages from: the lists of tickets, and nothing else."""
    names = [ticket_list(queue) for queue in queues]
    for name in names:
        # Of an exchange of its own: the application's default one may be of another kind.
        app.amqp.queues.add(name, exchange=name, exchange_type="direct", routing_key=name)
    return names
