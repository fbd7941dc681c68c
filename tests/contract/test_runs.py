"""What one run leaves behind does not reach the next run: options of the task, and the error that its code has raised."""

from __future__ import annotations

import json
import threading
import urllib.error
from collections.abc import Callable, Iterator
from email.message import Message
from io import BytesIO
from typing import Any

import pytest
from celery import Celery, Task

from ledgerq_shared.states import State
from ledgerq_worker.celery.run_options import OPTIONS
from ledgerq_worker.celery.seams.backend import install_backend
from ledgerq_worker.celery.seams.sender import install_sender, queue_of
from ledgerq_worker.drain.runner import Runner
from ledgerq_worker.slot import legs
from ledgerq_worker.slot.ends import Failed, GoesOn, Next, Succeeded
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import SlotTable
from tests.support.claimed import claimed_task


class Bench:
    """Runs tasks of an application as a slot does."""

    def __init__(self, app: Celery, table: SlotTable) -> None:
        self.app = app
        install_backend(app)
        install_sender(app, self._send)
        self._runner = Runner(app, table, 0, None, hostname="host")  # type: ignore[arg-type]

    def _send(self, name: str, message: Any, options: dict[str, Any], _natively: Callable[[], Any]) -> None:
        leg = legs.current()
        assert leg is not None
        queue, retries = queue_of(self.app, options), message.headers["retries"]
        leg.next = Next(name, queue, 5, retries, None, "{}", None)

    def run(self, lazy: Task, **fields: Any) -> Leg:
        self.app.finalize()
        return self._runner.run(claimed_task(lazy.name, **fields))


def _returned(leg: Leg) -> Any:
    assert isinstance(leg.end, Succeeded)
    return json.loads(leg.end.result or "")


@pytest.fixture
def bench() -> Iterator[Bench]:
    table = SlotTable.create(1)
    with Celery("runs", broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        app.conf.task_default_queue = "default"
        yield Bench(app, table)
    table.remove()


class _Declined(ValueError):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Alone(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _HoldsALock(RuntimeError):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


_NOT_TO_BE_PICKLED = {
    "with parameters of its own": lambda: _Declined(402, "card declined"),
    "of nothing but Exception": lambda: _Alone(402, "card declined"),
    "with a lock": lambda: _HoldsALock("card declined"),
    "of a class inside a function": lambda: type("Inner", (KeyError,), {"__str__": lambda _: "card declined"})("x"),
    "of the standard library": lambda: urllib.error.HTTPError("http://x", 404, "declined", Message(), BytesIO(b"")),
}


@pytest.mark.parametrize("track_started", [False, True], ids=["the shorter way", "Celery's tracer"])
@pytest.mark.parametrize("how", _NOT_TO_BE_PICKLED)
def test_an_exception_that_pickle_cannot_hold_keeps_type_message_and_traceback(
    bench: Bench, how: str, track_started: bool
):
    error = _NOT_TO_BE_PICKLED[how]()

    @bench.app.task(name="t", track_started=track_started, shared=False)
    def task() -> None:
        raise error

    leg = bench.run(task)
    assert isinstance(leg.end, Failed)
    told = json.loads(leg.end.error)
    assert (told["type"], told["message"]) == (type(error).__name__, str(error))
    assert "in task\n" in told["traceback"]
    assert type(error).__name__ in told["traceback"].strip().splitlines()[-1]
    assert "Unpickleable" not in told["traceback"]


@pytest.mark.parametrize("way", ["retry", "autoretry"])
def test_the_reason_of_a_retry_that_pickle_cannot_hold_keeps_type_and_message(bench: Bench, way: str):
    options: dict[str, Any] = {"autoretry_for": (_Declined,), "retry_jitter": False} if way == "autoretry" else {}

    @bench.app.task(name="t", bind=True, shared=False, **options)
    def task(self: Task) -> None:
        if way == "autoretry":
            raise _Declined(402, "card declined")
        raise self.retry(exc=_Declined(402, "card declined"))

    leg = bench.run(task)
    assert isinstance(leg.end, GoesOn)
    assert leg.end.state is State.RETRY
    assert json.loads(leg.end.data)["error"] == {"type": "_Declined", "message": "card declined"}


def test_the_retries_that_one_run_asks_for_are_not_the_next_runs(bench: Bench):
    @bench.app.task(
        name="t", bind=True, autoretry_for=(ValueError,), max_retries=1, default_retry_delay=0, shared=False
    )
    def task(self: Task, loud: bool = False) -> None:
        if loud:
            raise self.retry(countdown=0, max_retries=6)
        raise ValueError("no")

    def states() -> list[State | None]:
        return [bench.run(task, retries=retries).state for retries in range(3)]

    before = states()
    assert before == [State.RETRY, State.FAILURE, State.FAILURE]
    assert bench.run(task, parameters='{"loud": true}', retries=3).state is State.RETRY
    assert states() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_retries", 6), ("default_retry_delay", 1), ("priority", 9), ("queue", "slow"), ("soft_time_limit", 1)],
)
def test_an_option_that_a_run_sets_on_its_task_is_of_that_run_and_what_else_it_keeps_there_stays(
    bench: Bench, name: str, value: Any
):
    @bench.app.task(name="t", bind=True, max_retries=3, shared=False)
    def task(self: Task) -> Any:
        before = getattr(self, name, None)
        setattr(self, name, value)
        self.seen = getattr(self, "seen", 0) + 1  # a connection, say
        return [before, getattr(self, name), self.seen]

    own = getattr(bench.app.tasks["t"], name, None)
    for number in (1, 2, 3):
        assert _returned(bench.run(task)) == [own, value, number]
    assert getattr(bench.app.tasks["t"], name, None) == own
    setattr(bench.app.tasks["t"], name, 2)
    assert _returned(bench.run(task))[0] == 2, "outside of a run it is the task's"


def test_where_a_run_sends_itself_on_is_not_where_the_next_does(bench: Bench):
    @bench.app.task(name="t", bind=True, shared=False)
    def task(self: Task, queue: str | None = None) -> None:
        if queue:
            self.queue = queue
        self.apply_async()

    def goes_to(parameters: str) -> Any:
        leg = bench.run(task, parameters=parameters)
        assert isinstance(leg.end, GoesOn)
        return leg.end.next.queue

    usual = goes_to("{}")
    assert goes_to('{"queue": "slow"}') == "slow"
    assert goes_to("{}") == usual


def test_every_option_of_celerys_task_is_known_to_be_one_or_to_be_none():
    plain = {
        name
        for name, value in vars(Task).items()
        if not (name.startswith("_") or callable(value) or hasattr(value, "__get__"))
    }
    assert plain - OPTIONS == {"Strategy", "Request", "name", "abstract", "from_config", "request_stack"}
