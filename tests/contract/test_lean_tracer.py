"""The shorter way through a task is Celery's tracer in everything that anybody can see."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, Task, current_task, signals
from celery.app import trace
from celery.exceptions import Ignore, Reject, Retry
from celery.loaders.base import BaseLoader

from ledgerq_worker.celery.seams import lean_tracer
from ledgerq_worker.celery.seams.backend import install_backend
from ledgerq_worker.celery.seams.lean_tracer import lean_tracer_of
from ledgerq_worker.celery.seams.sender import install_sender
from ledgerq_worker.drain import runner
from ledgerq_worker.drain.runner import Runner
from ledgerq_worker.slot import legs
from ledgerq_worker.slot.ends import Failed, GoesOn, Next
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import SlotTable
from tests.support.claimed import claimed_task

#: What a body may see of its request.
_SEEN = (  # noqa: SIM905
    "id task root_id correlation_id retries hostname is_eager timelimit time_limit soft_time_limit delivery_info "
    "args kwargs called_directly headers callbacks errbacks chain chord group ignore_result children expires"
).split()


def returns_a_dict(self: Task, **kwargs: Any) -> Any:
    return {"kwargs": kwargs}


def returns_nothing(self: Task, **kwargs: Any) -> Any:
    return None


def tells_its_request(self: Task, **kwargs: Any) -> Any:
    return {name: repr(getattr(self.request, name)) for name in _SEEN}


def tells_whether_it_is_current(self: Task, **kwargs: Any) -> Any:
    return [current_task.name, current_task.request.id == self.request.id]


def returns_what_json_cannot_hold(self: Task, **kwargs: Any) -> Any:
    return {1, 2}


def returns_too_much(self: Task, **kwargs: Any) -> Any:
    return "x" * 2_000_000


def raises(self: Task, **kwargs: Any) -> Any:
    raise ValueError("no")


def raises_what_cannot_be_pickled(self: Task, **kwargs: Any) -> Any:
    class Local(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("local")

    raise Local(1, 2)


def exits(self: Task, **kwargs: Any) -> Any:
    raise SystemExit(3)


def runs_out_of_memory(self: Task, **kwargs: Any) -> Any:
    raise MemoryError("all gone")


def asks_for_a_retry(self: Task, **kwargs: Any) -> Any:
    raise self.retry(exc=KeyError("first"), countdown=7, max_retries=5)


def has_no_retries_left(self: Task, **kwargs: Any) -> Any:
    raise self.retry(exc=ValueError("spent"), max_retries=0)


def retries_without_raising(self: Task, **kwargs: Any) -> Any:
    self.retry(throw=False)
    return "went on"


def raises_a_bare_retry(self: Task, **kwargs: Any) -> Any:
    raise Retry("later", when=3)


def ignores_itself(self: Task, **kwargs: Any) -> Any:
    raise Ignore


def rejects_itself(self: Task, **kwargs: Any) -> Any:
    raise Reject("bad")


def asks_to_be_requeued(self: Task, **kwargs: Any) -> Any:
    raise Reject("later", requeue=True)


def replaces_itself(self: Task, **kwargs: Any) -> Any:
    return self.replace(self.app.tasks["returns_nothing"].s(n=1))


def calls_itself(self: Task, **kwargs: Any) -> Any:
    if "again" in kwargs:
        return [self.request.called_directly, self.request.id]
    inner, leg = self(again=True), legs.current()
    assert leg is not None
    return {"inner": inner, "is_body_done": leg.is_body_done, "id": self.request.id}


BODIES = [
    returns_a_dict, returns_nothing, tells_its_request, tells_whether_it_is_current, returns_what_json_cannot_hold,
    returns_too_much, raises, raises_what_cannot_be_pickled, exits, runs_out_of_memory, asks_for_a_retry,
    has_no_retries_left, retries_without_raising, raises_a_bare_retry, ignores_itself, rejects_itself,
    asks_to_be_requeued, replaces_itself, calls_itself,
]  # fmt: skip


def body_without_arguments() -> None:
    """A task that does nothing."""


class Bench:
    """Runs tasks as a drain does, by either way."""

    def __init__(self, app: Celery, table: SlotTable, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self._monkeypatch = monkeypatch
        install_backend(app)
        install_sender(app, self._send)
        for body in BODIES:
            app.task(name=body.__name__, bind=True, shared=False)(body)
        app.finalize()
        self._runner = Runner(app, table, 0, None, hostname="host")  # type: ignore[arg-type]

    def _send(self, name: str, message: Any, options: dict[str, Any], natively: Callable[[], Any]) -> None:
        leg = legs.current()
        assert leg is not None
        headers = {name: value for name, value in message.headers.items() if name != "origin"}
        leg.next = Next(name, "default", 5, headers["retries"], None, repr(message.body[:2]), repr(headers))

    def run(self, name: str, *, lean: bool, **fields: Any) -> Leg:
        task = claimed_task(name, id="0192f0c1-2f6b-7c3e-8a44-5d1f00000001", **fields)
        with self._monkeypatch.context() as patch:
            patch.setattr(runner, "is_anybody_listening", lambda: not lean)
            return self._runner.run(task)

    def run_as_it_is(self, name: str) -> Leg:
        return self._runner.run(claimed_task(name))

    def is_lean(self, name: str) -> bool:
        return lean_tracer_of(self.app, self.app.tasks[name]) is not None


@pytest.fixture(params=[False, True], ids=["bare", "in_a_worker"])
def bench(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Bench]:
    table = SlotTable.create(1)
    if request.param:
        # As Celery's worker does it at its start; taken back at the end.
        monkeypatch.setattr(trace.BaseTask, "__call__", trace.BaseTask.__call__)
        monkeypatch.setattr(trace, "_patched", {})
        monkeypatch.setattr(trace.BaseTask, "_stackprotected", False, raising=False)
        trace._install_stack_protection()
    with Celery("lean", broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        app.conf.task_default_queue = "default"
        yield Bench(app, table, monkeypatch)
    table.remove()


def visible(leg: Leg) -> dict[str, Any]:
    """All of a leg that anybody can see: the ledger, Celery's result backend, and everybody to whom it sends something."""
    end, error = leg.end, None
    assert end is not None
    if isinstance(end, Failed):
        error = runner.decode(end.error, from_celery=False)
        # The frames of the task's own code; the tracers' own differ.
        lines = error.pop("traceback").splitlines()
        error["code"] = [line.strip() for line in lines if "test_lean_tracer" in line or not line.startswith(" ")]
    following = end.next._asdict() if isinstance(end, GoesOn) else {}
    following.pop("run_at", None)
    request = getattr(end, "request", None)
    return {
        "state": end.state, "result": getattr(end, "result", None), "error": error, "next": following,
        "data": getattr(end, "data", None), "exception": repr(getattr(end, "exception", None)),
        "is_published": getattr(end, "is_published", False), "value": repr(getattr(end, "value", None)),
        "is_body_done": leg.is_body_done, "messages": leg.messages, "follow_ups": leg.follow_ups,
        "has_request": request is not None, "request": request and request.as_execution_options(),
    }  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_both_ways_end_alike(bench: Bench, body: Callable[..., Any]):
    assert bench.is_lean(body.__name__)
    fields = {"parameters": '{"n": 1}', "retries": 1, "attempt": 2, "soft_time_limit": 9.0}
    lean, full = (visible(bench.run(body.__name__, lean=lean, **fields)) for lean in (True, False))
    for leg in (lean, full):
        assert leg["state"] is not None
        if leg["next"]:
            leg["next"]["celery"] = _without_moments(leg["next"]["celery"])
    assert lean == full


def _without_moments(headers: str | None) -> str | None:
    return headers and ", ".join(part for part in headers.split(", ") if not part.startswith("'eta'"))


def test_wrong_arguments_end_alike(bench: Bench):
    def strict(n: int) -> int:
        return n

    bench.app.task(name="strict", shared=False)(strict)
    ends = [visible(bench.run("strict", lean=lean, parameters='{"m": 1}')) for lean in (True, False)]
    assert ends[0]["state"] == "FAILURE"
    assert ends[0] == ends[1]


def test_after_any_end_no_task_is_current(bench: Bench):
    for body in BODIES:
        bench.run(body.__name__, lean=True)
        assert not current_task
        assert bench.app.tasks[body.__name__].request.called_directly


def test_failures_and_retries_tell_signals_and_log_alike(bench: Bench, caplog: pytest.LogCaptureFixture):
    heard: list[Any] = []

    def failed(sender: Task, exception: BaseException, **_: Any) -> None:
        heard.append((sender.name, repr(exception)))

    def retried(sender: Task, reason: Retry, **_: Any) -> None:
        heard.append((sender.name, str(reason)))

    signals.task_failure.connect(failed)
    signals.task_retry.connect(retried)
    try:
        told = []
        for lean in (True, False):
            heard.clear()
            caplog.clear()
            with caplog.at_level(logging.WARNING, logger="celery.app.trace"):
                for body in (raises, asks_for_a_retry, rejects_itself):
                    bench.run(body.__name__, lean=lean)
            told.append((list(heard), [record.getMessage().splitlines()[0] for record in caplog.records]))
    finally:
        signals.task_failure.disconnect(failed)
        signals.task_retry.disconnect(retried)
    assert len(told[0][0]) == 2
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "hook", ["__call__", "before_start", "on_success", "on_failure", "on_retry", "after_return"], ids=str
)
def test_a_task_with_a_hook_goes_the_long_way(bench: Bench, hook: str):
    base = type("Hooked", (Task,), {hook: lambda *_args, **_kwargs: None, "abstract": True})
    bench.app.task(name="hooked", base=base, shared=False)(body_without_arguments)
    assert not bench.is_lean("hooked")


@pytest.mark.parametrize("option", [{"track_started": True}], ids=str)
def test_a_task_with_an_option_that_needs_it_goes_the_long_way(bench: Bench, option: dict[str, Any]):
    bench.app.task(name="special", shared=False, **option)(body_without_arguments)
    assert not bench.is_lean("special")


def test_deduplication_goes_the_long_way(bench: Bench):
    bench.app.conf.worker_deduplicate_successful_tasks = True
    assert not bench.is_lean("returns_nothing")


def test_a_loader_that_wants_to_know_goes_the_long_way(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    class Loader(BaseLoader):
        def on_task_init(self, task_id: str, task: Task) -> None: ...

    monkeypatch.setattr(bench.app, "loader", Loader(bench.app))
    assert not bench.is_lean("returns_nothing")


@pytest.mark.parametrize("name", ["task_prerun", "task_postrun", "task_success"])
def test_a_receiver_is_heard_from_the_next_task_on(bench: Bench, name: str):
    signal, heard = getattr(signals, name), []

    def receiver(**_: Any) -> None:
        heard.append(name)

    bench.run_as_it_is("returns_nothing")
    signal.connect(receiver)
    try:
        bench.run_as_it_is("returns_nothing")
    finally:
        signal.disconnect(receiver)
    bench.run_as_it_is("returns_nothing")
    assert heard == [name]


class _Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def root_handler_alone(*, leaves_out_successes: bool = True) -> Iterator[_Kept]:
    """The root logger's only handler, as in a worker, at level info."""
    root, original = logging.getLogger(), logging.getLogger(trace.logger.name)
    before = list(root.handlers), root.level, original.level
    handler = _Kept()
    handler.addFilter(logging.Filter("celery"))  # kombu writes a line now and then
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    original.setLevel(logging.NOTSET)
    if leaves_out_successes:
        lean_tracer.leave_out_successes()
    try:
        yield handler
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        original.setLevel(before[2])


def test_celerys_line_for_each_success_goes_to_a_handler_that_would_write_it(bench: Bench):
    with root_handler_alone(leaves_out_successes=False) as handler:
        bench.run_as_it_is("returns_nothing")
    assert [line.split("[")[0] for line in handler.lines] == ["Task returns_nothing"]


def test_a_worker_leaves_celerys_line_for_each_success_out_on_both_ways(bench: Bench):
    with root_handler_alone() as handler:
        assert not lean_tracer.is_anybody_listening()
        for lean in (True, False):
            bench.run("returns_nothing", lean=lean)
            bench.run("asks_for_a_retry", lean=lean)
    assert [line.split("[")[0] for line in handler.lines] == ["Task asks_for_a_retry"] * 2


@pytest.mark.parametrize("name", ["celery.app.trace", "celery", ""])
def test_a_handler_of_the_users_gets_celerys_line_for_each_success(bench: Bench, name: str):
    own, logger = _Kept(), logging.getLogger(name)
    with root_handler_alone() as handler:
        logger.addHandler(own)
        try:
            bench.run_as_it_is("returns_nothing")
        finally:
            logger.removeHandler(own)
        bench.run_as_it_is("returns_nothing")
    assert [line.split("[")[0] for line in own.lines] == ["Task returns_nothing"]
    assert not handler.lines


def test_a_filter_of_the_users_sees_celerys_line_for_each_success(bench: Bench):
    seen: list[str] = []

    def own(record: logging.LogRecord) -> bool:
        seen.append(record.getMessage())
        return True

    logger = logging.getLogger("celery.app.trace")
    with root_handler_alone():
        logger.addFilter(own)
        try:
            bench.run_as_it_is("returns_nothing")
        finally:
            logger.removeFilter(own)
    assert len(seen) == 1


def test_above_info_nobody_is_listening():
    with root_handler_alone(leaves_out_successes=False):
        assert lean_tracer.is_anybody_listening()
        logging.getLogger().setLevel(logging.WARNING)
        assert not lean_tracer.is_anybody_listening()
