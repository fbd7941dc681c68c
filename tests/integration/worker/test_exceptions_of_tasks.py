"""Exceptions keep their class and arguments, whoever hears of them: the client, errbacks, chords, hooks, signals."""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chord
from celery.exceptions import ChordError, Reject, TimeLimitExceeded, WorkerLostError

from tests.integration.worker.conftest import Work
from tests.support import ledger_checks, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Running

_ERRORS = """
class OrderError(Exception):
    pass


class Particular(Exception):
    def __init__(self, code, *, detail="none"):
        super().__init__(code, detail)
"""
_MODULE = """
import datetime, json, os, time
from celery import Task, shared_task, signals
from celery.exceptions import Reject
from shop_errors import OrderError, Particular


def note(name, **what):
    with open(name, "a") as file:
        file.write(json.dumps(what, default=str) + "\\n")


class Hooked(Task):
    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note("hooks.txt", hook="on_failure", type=type(exc).__name__, id=task_id, args=args, kwargs=kwargs,
             request=self.request.id, einfo=einfo.type.__name__, pid=os.getpid())

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note("hooks.txt", hook="after_return", status=status, type=type(retval).__name__, id=task_id)


@signals.task_failure.connect
def failed(sender=None, task_id=None, exception=None, args=None, kwargs=None, **_):
    note("signals.txt", task=sender.name, id=task_id, type=type(exception).__name__, args=list(args), kwargs=kwargs)


@shared_task
def fails(code, detail):
    raise OrderError(code, detail)


@shared_task
def fails_at(moment):
    raise OrderError(moment)


@shared_task
def particular():
    raise Particular("E9", detail="d")


@shared_task
def rejects():
    raise Reject("not today", requeue=False)


@shared_task
def exits():
    raise SystemExit(3)


@shared_task(base=Hooked, time_limit=1)
def sleeps(seconds, unit="s"):
    time.sleep(seconds)


@shared_task
def gives(value):
    return value


@shared_task
def sends_and_fails():
    gives.delay(7)
    raise OrderError("after it")


@shared_task
def errback(request, exc, traceback):
    note("errbacks.txt", type=type(exc).__name__, module=type(exc).__module__, args=[repr(one) for one in exc.args],
         id=request.id, task=request.task, given=request.args, kwargs=request.kwargs, retries=request.retries,
         queue=request.delivery_info["routing_key"], root=request.root_id, has_traceback=bool(traceback))


@shared_task
def old_errback(task_id):
    note("errbacks.txt", old=task_id)
"""


@pytest.fixture
def shop(work: Work, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module with the tasks' exceptions, which a client's process has, too."""
    (work.stack.folder / "shop_errors.py").write_text(_ERRORS)
    (work.stack.folder / "shop_tasks.py").write_text(_MODULE)
    [maintenance] = work.stack.started
    maintenance.stop()
    work.stack.maintenance(LEDGERQ_TASK_MODULES="shop_tasks")
    monkeypatch.syspath_prepend(str(work.stack.folder))
    import shop_errors

    yield shop_errors
    del sys.modules["shop_errors"]


@pytest.fixture(params=["prefork", "threads"])
def worker(work: Work, shop: Any, request: pytest.FixtureRequest) -> Running:
    return work.stack.worker(LEDGERQ_TASK_MODULES="shop_tasks", LEDGERQ_WORKER_POOL=request.param)


@pytest.fixture
def prefork(work: Work, shop: Any) -> Running:
    return work.stack.worker(LEDGERQ_TASK_MODULES="shop_tasks")


def told(work: Work, name: str, count: int) -> list[dict[str, Any]]:
    """The lines that tasks, hooks and errbacks wrote, when there are that many."""
    path = work.stack.folder / f"{name}.txt"
    wait.until(lambda: path.exists() and len(path.read_text().splitlines()) >= count, 30, what=f"{count} in {name}")
    return [json.loads(line) for line in path.read_text().splitlines()]


def sent(app: Celery, name: str, *args: Any, **options: Any) -> Any:
    return app.send_task(f"shop_tasks.{name}", args, **options)


def test_an_errback_gets_the_exception_and_the_request_and_the_client_keeps_the_class(
    work: Work, worker: Running, shop: Any, client_app: Celery
):
    errbacks = [client_app.signature(f"shop_tasks.{name}") for name in ("errback", "old_errback")]
    result = client_app.send_task("shop_tasks.fails", ("E8",), {"detail": "d"}, link_error=errbacks)
    first, second = told(work, "errbacks", 2)
    told_of = first if "old" not in first else second
    assert told_of == {
        "type": "OrderError", "module": "shop_errors", "args": ["'E8'", "'d'"], "id": result.id,
        "task": "shop_tasks.fails", "given": ["E8"], "kwargs": {"detail": "d"}, "retries": 0, "queue": "default",
        "root": result.id, "has_traceback": True,
    }  # fmt: skip
    assert {"old": result.id} in (first, second)
    with pytest.raises(shop.OrderError) as caught:
        result.get(timeout=30)
    assert caught.value.args == ("E8", "d")
    assert "raise OrderError(code, detail)" in result.traceback
    assert ledger_checks.problems(work.database_url) == []


def test_arguments_of_an_exception_keep_their_types_and_a_class_with_its_own_signature_stays(
    work: Work, worker: Running, client_app: Celery
):
    errback = client_app.signature("shop_tasks.errback")
    sent(client_app, "fails_at", dt.date(2026, 1, 2), link_error=errback)
    [line] = told(work, "errbacks", 1)
    assert line["args"] == ["datetime.date(2026, 1, 2)"]
    sent(client_app, "particular", link_error=errback)
    [_, line] = told(work, "errbacks", 2)
    assert (line["type"], line["args"]) == ("Particular", ["'E9'", "'d'"])


def test_a_chord_and_a_chain_whose_member_fails_tell_the_class(
    work: Work, worker: Running, shop: Any, client_app: Celery
):
    fails = client_app.signature("shop_tasks.fails", ("E1", "d"))
    gives = client_app.signature("shop_tasks.gives")
    result = chord([fails, gives.clone((1,))], app=client_app)(gives.clone())
    wait.until(lambda: result.state == "FAILURE", 30, what=worker.log)
    assert isinstance(result.result, ChordError)
    assert "OrderError('E1', 'd')" in str(result.result)
    chained = (fails | gives.clone()).apply_async()
    for one in (chained, chained.parent):
        with pytest.raises(shop.OrderError) as caught:
            one.get(timeout=30)
        assert caught.value.args == ("E1", "d")
    wait.until(lambda: client_app.backend.get_state(chained.id) == "FAILURE", 30, what="the step behind fails, too")


def test_a_result_that_is_told_once_more_keeps_its_children(work: Work, worker: Running, shop: Any, client_app: Celery):
    result = sent(client_app, "sends_and_fails", link_error=client_app.signature("shop_tasks.errback"))
    told(work, "errbacks", 1)
    with pytest.raises(shop.OrderError):
        result.get(timeout=30)
    [child] = result.children
    assert child.get(timeout=30) == 7


def test_a_rejected_task_is_told_as_such_to_its_client_and_to_the_signal(
    work: Work, worker: Running, client_app: Celery
):
    result = sent(client_app, "rejects", link_error=client_app.signature("shop_tasks.errback"))
    with pytest.raises(Reject) as caught:
        result.get(timeout=30)
    assert caught.value.reason == "not today"
    assert told(work, "signals", 1) == [
        {"task": "shop_tasks.rejects", "id": result.id, "type": "Reject", "args": [], "kwargs": {}}
    ]
    assert told(work, "errbacks", 1)[0]["type"] == "Reject"


def test_a_task_that_ends_its_process_ends_no_client(work: Work, worker: Running, client_app: Celery):
    with pytest.raises(WorkerLostError, match="SystemExit: 3"):
        sent(client_app, "exits").get(timeout=30)


def test_after_a_hard_limit_the_class_matches_and_hooks_signal_and_errbacks_run_once(
    work: Work, prefork: Running, client_app: Celery
):
    errback = client_app.signature("shop_tasks.errback")
    result = client_app.send_task("shop_tasks.sleeps", (60,), {"unit": "s"}, link_error=errback)
    with pytest.raises(TimeLimitExceeded) as caught:
        result.get(timeout=30)
    assert caught.value.args == (1,)
    [signal] = told(work, "signals", 1)
    assert signal == {
        "task": "shop_tasks.sleeps", "id": result.id, "type": "TimeLimitExceeded", "args": [60], "kwargs": {"unit": "s"}
    }  # fmt: skip
    failed, returned = told(work, "hooks", 2)
    assert (failed["hook"], failed["type"], failed["id"], failed["request"]) == (
        "on_failure", "TimeLimitExceeded", result.id, result.id,
    )  # fmt: skip
    assert (failed["args"], failed["kwargs"], failed["einfo"]) == ([60], {"unit": "s"}, "TimeLimitExceeded")
    assert (returned["hook"], returned["status"], returned["type"]) == ("after_return", "FAILURE", "TimeLimitExceeded")
    [line] = told(work, "errbacks", 1)
    assert (line["type"], line["given"], line["queue"]) == ("TimeLimitExceeded", [60], "default")
    assert failed["pid"] not in {prefork.pid, work.stack.started[1].pid}  # neither the worker's parent nor maintenance
    assert ledger_checks.problems(work.database_url) == []
