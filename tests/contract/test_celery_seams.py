"""What we rely on in Celery beyond its documentation. A new Celery must fail here, loudly, and nowhere else.

Each test names the seam of `ledgerq_worker.celery.seams` that breaks when it fails.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import celery
import pytest
from celery import Celery, Task, chain, signals
from celery.app import trace
from celery.app.amqp import AMQP
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry
from celery.worker import request as worker_request
from celery.worker import strategy
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu.simple import SimpleQueue

from ledgerq_shared.broker import DRAIN_TASK
from ledgerq_shared.states import State
from ledgerq_worker.celery.messages import request_of
from ledgerq_worker.celery.seams import backend, channels, drain_task, sender
from ledgerq_worker.celery.seams.tracer import tracer_of
from ledgerq_worker.slot import legs
from ledgerq_worker.slot.ends import Failed, Succeeded
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import SlotTable
from tests.support.claimed import claimed_task

#: The versions whose source was read. Read the new one's before adding it here: tracer, request, amqp, strategy.
READ = {(5, 7)}


class Recorder:
    """Takes what a leg reports."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = []


def result_of(leg: Leg) -> str | None:
    assert isinstance(leg.end, Succeeded)
    return leg.end.result


def error_of(leg: Leg) -> str:
    assert isinstance(leg.end, Failed)
    return leg.end.error


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("seams", broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        app.conf.task_default_queue = "default"
        yield app


@pytest.fixture
def table() -> Iterator[SlotTable]:
    table = SlotTable.create(1)
    yield table
    table.remove()


class Bench:
    """Runs tasks of an application through its seams, as a drain does."""

    def __init__(self, app: Celery, table: SlotTable) -> None:
        self.app = app
        self.table = table
        #: Messages that Celery wanted to send: ``(name, headers, options, is the body done)``.
        self.sent: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = []
        backend.install_backend(app)
        sender.install_sender(app, self._send)

    def _send(self, name: str, message: Any, options: dict[str, Any], _natively: Any) -> None:
        leg = legs.current()
        self.sent.append((name, message.headers, options, leg is not None and leg.is_body_done))

    def run(self, lazy: Task, *args: Any, request: dict[str, Any] | None = None, **fields: Any) -> tuple[Leg, Any]:
        self.app.finalize()
        task = self.app.tasks[lazy.name]
        row = claimed_task(task.name, **fields)
        leg = Leg(row, 0, self.table, Recorder(), State.PENDING)  # type: ignore[arg-type]
        tracer = tracer_of(self.app, task, "host")
        legs.set_current(leg)
        try:
            outcome = tracer(leg.celery_id, list(args), {}, request_of(row, request, hostname="host"))
        finally:
            legs.set_current(None)
        return leg, outcome


@pytest.fixture
def bench(app: Celery, table: SlotTable) -> Bench:
    return Bench(app, table)


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_this_celery_was_read():
    assert celery.VERSION[:2] in READ, "read tracer, request, amqp and strategy of this version, then extend READ"


# tracer


def test_the_tracer_is_built_and_called_as_we_do():
    assert parameters(trace.build_tracer)[:4] == ["name", "task", "loader", "hostname"]
    assert "app" in parameters(trace.build_tracer)
    assert trace.trace_ok_t._fields == ("retval", "info", "runtime", "retstr")


def test_the_tracer_takes_the_body_from_the_tasks_run(bench: Bench):
    @bench.app.task(name="t", shared=False)
    def task() -> str:
        leg = legs.current()
        assert leg is not None
        return f"done: {leg.is_body_done}"

    leg, _ = bench.run(task)
    assert result_of(leg) == '"done: False"'
    assert leg.is_body_done
    assert not hasattr(task.run, "__wrapped__"), "the marker is the tracer's alone"


def test_a_success_is_handed_to_the_backend_and_reported_as_nothing(bench: Bench):
    @bench.app.task(name="t", shared=False)
    def task(x: int) -> dict[str, int]:
        return {"x": x}

    leg, (_, info, _, _) = bench.run(task, 7)
    assert info is None
    assert isinstance(leg.end, Succeeded)
    assert (leg.end.result, leg.end.value, leg.end.is_published) == ('{"x":7}', {"x": 7}, True)
    assert isinstance(leg.end.request, Context)


def test_a_failure_is_handed_to_the_backend_with_its_traceback(bench: Bench):
    @bench.app.task(name="t", shared=False)
    def task() -> None:
        raise ValueError("wrong")

    leg, (_, info, _, _) = bench.run(task)
    assert info.state == "FAILURE"
    assert isinstance(leg.end, Failed)
    assert isinstance(leg.end.exception, ValueError)
    assert '"type":"ValueError","message":"wrong"' in error_of(leg)
    assert "raise ValueError" in error_of(leg)


def test_a_result_that_cannot_be_encoded_is_the_tasks_failure_and_sends_nothing(bench: Bench):
    @bench.app.task(name="t", shared=False)
    def task() -> set[int]:
        return {1}

    signature = bench.app.signature("next")
    leg, (_, info, _, _) = bench.run(task, request={"callbacks": [signature]})
    assert info.state == "FAILURE"
    assert '"type":"ResultNotSerializable"' in error_of(leg)
    assert leg.follow_ups == []


@pytest.mark.parametrize(
    ("raised", "state"), [(Ignore(), "IGNORED"), (Reject("no", requeue=True), "REJECTED"), (Retry(), "RETRY")]
)
def test_control_flow_is_reported_with_the_exception(bench: Bench, raised: Exception, state: str):
    @bench.app.task(name="t", shared=False)
    def task() -> None:
        raise raised

    leg, (_, info, _, _) = bench.run(task)
    assert (info.state, info.retval) == (state, raised)
    assert leg.end is None


def test_what_is_no_exception_escapes_the_tracer(bench: Bench):
    @bench.app.task(name="t", shared=False)
    def task() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        bench.run(task)


def test_a_retry_sends_the_same_id_while_the_body_runs(bench: Bench):
    @bench.app.task(name="t", bind=True, shared=False)
    def task(self: Task) -> None:
        raise self.retry(countdown=30)

    leg, (_, info, _, _) = bench.run(task)
    [(name, headers, _, is_body_done)] = bench.sent
    assert (name, headers["id"], headers["retries"], headers["countdown"]) == ("t", leg.celery_id, 1, 30.0)
    assert not is_body_done
    assert info.state == "RETRY"


def test_a_replacement_sends_the_same_id_and_is_reported_as_ignored(bench: Bench):
    @bench.app.task(name="t", bind=True, shared=False)
    def task(self: Task) -> None:
        self.replace(bench.app.signature("other", args=(1,)))

    leg, (_, info, _, _) = bench.run(task)
    [(name, headers, _, _)] = bench.sent
    assert (name, headers["id"]) == ("other", leg.celery_id)
    assert info.state == "IGNORED"


def test_chain_steps_and_callbacks_are_sent_after_the_body_and_before_the_result(bench: Bench):
    @bench.app.task(name="t", shared=False)
    def task() -> int:
        bench.app.send_task("from.the.body")
        return 1

    step = bench.app.signature("step")
    linked = bench.app.signature("linked")
    leg, _ = bench.run(task, request={"chain": [dict(step)], "callbacks": [dict(linked)]})
    assert [(name, is_body_done) for name, _, _, is_body_done in bench.sent] == [
        ("from.the.body", False), ("linked", True), ("step", True),
    ]  # fmt: skip
    assert {headers["parent_id"] for name, headers, _, _ in bench.sent if name != "from.the.body"} == {leg.celery_id}


def test_signals_tell_of_the_task(bench: Bench):
    seen: list[str] = []

    @bench.app.task(name="t", shared=False)
    def task() -> int:
        return 1

    def note(signal: Any, **_: Any) -> None:
        seen.append(signal.name)

    watched = [signals.task_prerun, signals.task_success, signals.task_postrun]
    for signal in watched:
        signal.connect(note)
    try:
        bench.run(task)
    finally:
        for signal in watched:
            signal.disconnect(note)
    assert seen == ["task_prerun", "task_success", "task_postrun"]


def test_max_retries_is_what_the_running_task_was_submitted_with(bench: Bench):
    @bench.app.task(name="t", bind=True, max_retries=3, shared=False)
    def task(self: Task) -> int | None:
        return self.max_retries  # type: ignore[no-any-return]

    assert result_of(bench.run(task, max_retries=7)[0]) == "7"
    assert result_of(bench.run(task, max_retries=0)[0]) == "0"
    assert result_of(bench.run(task)[0]) == "3"
    assert bench.app.tasks["t"].max_retries == 3
    assert result_of(bench.run(task)[0]) == "3", "a tracer built while a leg runs learns nothing from it"


def test_a_task_may_still_set_its_own_max_retries(bench: Bench):
    @bench.app.task(name="t", bind=True, max_retries=3, shared=False)
    def task(self: Task) -> int | None:
        self.max_retries = 5
        return self.max_retries  # type: ignore[no-any-return]

    assert result_of(bench.run(task)[0]) == "5"


def test_a_task_with_its_own_call_is_marked_too(bench: Bench):
    class Wrapped(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return ["called", super().__call__(*args, **kwargs)]

    @bench.app.task(name="t", base=Wrapped, shared=False)
    def task() -> int:
        return 1

    leg, _ = bench.run(task)
    assert result_of(leg) == '["called",1]'
    assert leg.is_body_done
    trace._install_stack_protection()  # what setup_worker_optimizations does, without changing the current app
    try:
        leg, _ = bench.run(task)
        assert leg.is_body_done, "also where Celery has patched Task.__call__, as it does in a worker"
    finally:
        trace.reset_worker_optimizations(bench.app)


# backend


def test_outside_of_a_leg_the_backend_is_the_applications_own(bench: Bench):
    backend = bench.app.backend
    assert backend.is_ledger_backend
    backend.mark_as_done("a", 1)
    assert bench.app.AsyncResult("a").get(timeout=1) == 1
    backend.mark_as_failure("b", ValueError("x"))
    assert bench.app.AsyncResult("b").state == "FAILURE"
    assert bench.app.AsyncResult("a").backend is backend


def test_inside_a_leg_nothing_reaches_the_backend(bench: Bench):
    @bench.app.task(name="t", shared=False, track_started=True)
    def task() -> int:
        return 1

    leg, _ = bench.run(task)
    assert bench.app.AsyncResult(leg.celery_id).state == "PENDING"
    assert set((leg.start or ({}, None))[0]) == {"pid", "hostname"}, (
        "what `track_started` shows leaves with the ledger's STARTED"
    )


def test_a_state_of_the_tasks_own_is_seen_at_once(bench: Bench):
    @bench.app.task(name="t", bind=True, shared=False)
    def task(self: Task) -> None:
        self.update_state(state="HALFWAY", meta={"done": 50})

    leg, _ = bench.run(task)
    assert (bench.app.AsyncResult(leg.celery_id).state, bench.app.AsyncResult(leg.celery_id).info) == (
        "HALFWAY", {"done": 50},
    )  # fmt: skip


def test_installing_twice_changes_nothing(bench: Bench):
    before = bench.app.backend_cls
    backend.install_backend(bench.app)
    assert bench.app.backend_cls is before


@pytest.mark.parametrize("name", ["mark_as_done", "mark_as_failure", "mark_as_retry", "on_task_call", "store_result"])
def test_the_backends_methods_take_what_ours_pass_on(bench: Bench, name: str):
    ours = bench.app.backend_cls
    original = parameters(getattr(ours.__mro__[2], name))
    own = inspect.signature(getattr(ours, name)).parameters
    named = [one.name for one in own.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert original[: len(named)] == named


# sender


def test_celerys_message_factory_is_what_we_extend():
    assert parameters(AMQP.as_task_v2)[:6] == ["self", "task_id", "name", "args", "kwargs", "countdown"]
    assert hasattr(AMQP, "_create_task_sender")
    assert isinstance(inspect.getattr_static(AMQP, "send_task_message"), property | object)


def test_every_way_of_sending_goes_through_the_sender(bench: Bench):
    @bench.app.task(name="t", shared=False)
    def task() -> None: ...

    task.delay()
    task.apply_async((), queue="q", priority=3)
    task.s().apply_async(countdown=5)
    bench.app.send_task("t", queue="r")
    chain(task.si(), task.si()).apply_async()
    assert [name for name, *_ in bench.sent] == ["t"] * 5
    assert [sender.queue_of(bench.app, options) for _, _, options, _ in bench.sent] == [
        "default", "q", "default", "r", "default",
    ]  # fmt: skip
    assert bench.sent[1][2]["priority"] == 3
    assert bench.sent[2][1]["countdown"] == 5.0
    assert "countdown" not in bench.sent[0][1]


# drain


@pytest.fixture
def drained(app: Celery) -> list[Any]:
    calls: list[Any] = []
    drain_task.install_drain(app, calls.append, lambda pid: calls.append(("lost", pid)))
    return calls


def test_a_drain_runs_without_signals_and_without_a_result(app: Celery, drained: list[Any]):
    task = app.tasks[DRAIN_TASK]
    seen: list[Any] = []

    def note(**_: Any) -> None:
        seen.append("task_prerun")

    signals.task_prerun.connect(note)
    try:
        task.__trace__ = trace.build_tracer(task.name, task, app.loader, "host", app=app)
        answer = task.__trace__("id", ["q"], {}, {})
    finally:
        signals.task_prerun.disconnect(note)
    assert drained == ["q"]
    assert seen == []
    retval, info, runtime, text = answer
    assert (retval, info, text) == (None, None, "")
    assert runtime == 0.0


def test_celery_calls_the_trace_attribute_and_unpacks_four():
    assert "__trace__(" in inspect.getsource(trace.fast_trace_task)
    assert "R, I, T, Rstr = tasks[task].__trace__(" in inspect.getsource(trace.fast_trace_task)
    assert "task.__trace__ = build_tracer(" in inspect.getsource(Consumer.update_strategies)


def test_celery_makes_requests_of_the_drains_own_class(app: Celery, drained: list[Any]):
    assert "Request = symbol_by_name(task.Request)" in inspect.getsource(strategy.default)
    task = app.tasks[DRAIN_TASK]
    own = inspect.signature(task.Request.on_failure).parameters
    original = inspect.signature(worker_request.Request.on_failure).parameters
    assert list(own) == list(original)
    assert hasattr(worker_request.Request, "worker_pid")
    assert "error_callback=self.on_failure" in inspect.getsource(worker_request.create_request_cls)


def test_a_drain_that_failed_is_told_and_leaves_nothing_behind(app: Celery, drained: list[Any]):
    from celery.worker import state

    task = app.tasks[DRAIN_TASK]
    acknowledged: list[Any] = []
    message = SimpleNamespace(
        headers={"id": "i", "task": DRAIN_TASK, "root_id": "i"}, properties={}, delivery_info={}, body=(["q"], {}, {}),
        content_type="application/json", content_encoding="utf-8", payload=[["q"], {}, {}],
    )  # fmt: skip
    request = task.Request(
        message, app=app, task=task, decoded=True, on_ack=lambda *args: acknowledged.append(args), connection_errors=()
    )
    request.worker_pid = 4711
    state.task_reserved(request)
    state.task_accepted(request)
    request.on_failure(SimpleNamespace(exception=ValueError()))
    assert drained == [("lost", 4711)]
    assert len(acknowledged) == 1
    assert request.id not in state.requests
    assert request not in state.active_requests


def test_tickets_are_not_logged_as_received(app: Celery, drained: list[Any], caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("celery.worker.strategy")
    with caplog.at_level(logging.INFO, logger=logger.name):
        logger.info("Task %(name)s received", {"name": DRAIN_TASK}, extra={"data": {"name": DRAIN_TASK}})
        logger.info("Task %(name)s received", {"name": "other"}, extra={"data": {"name": "other"}})
    assert [record.data["name"] for record in caplog.records] == ["other"]  # type: ignore[attr-defined]


# adoption


def test_celery_converts_messages_of_older_protocols_as_ours_expect(app: Celery):
    assert parameters(strategy.hybrid_to_proto2) == ["message", "body"]
    assert parameters(strategy.proto1_to_proto2) == ["message", "body"]


def test_a_channel_whose_transport_is_gone_is_closed_without_an_error(redis_database: str):
    """kombu would return what was not acknowledged, over a connection that it can no longer make."""
    channels.let_channels_close()
    connection = Connection(redis_database)
    channel = connection.default_channel
    SimpleQueue(channel, "letters").put("a letter")
    assert channel.basic_get("letters", no_ack=False) is not None
    connection.transport.client = None
    connection.close()
    assert channel.closed
