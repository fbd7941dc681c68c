"""What a plain Celery client may expect of ids: a revoke is a fact, and an id that ended may run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
from celery import Celery, chain, group
from celery.result import AsyncResult

from tests.integration.worker.conftest import Work
from tests.support import databases, http, wait

if TYPE_CHECKING:
    from tests.support.stack import Running

_TASKS = """

from celery import signals


@shared_task
def mark(what):
    with open("marks.txt", "a") as marks:
        marks.write(f"{what}\\n")
    return what


@shared_task
def wait_for_file(path):
    import pathlib, time
    while not pathlib.Path(path).exists():
        time.sleep(0.05)


@shared_task
def sends(task_id):
    for what in ("first", "second"):
        mark.apply_async((what,), task_id=task_id)
        while what not in open("marks.txt").read() if __import__("os").path.exists("marks.txt") else True:
            __import__("time").sleep(0.05)
        __import__("time").sleep(0.5)


@shared_task
def careful(how):
    import signal, time
    if how == "handles":
        signal.signal(signal.SIGTERM, lambda number, frame: mark("handled"))
    mark(f"{how} begun")
    try:
        while how != "handles" or "handled" not in open("marks.txt").read():
            time.sleep(0.05)
    except SystemExit:
        while how == "stubborn":
            time.sleep(0.05)
        if how == "raises":
            raise ValueError("cleaning up failed") from None
        raise
    finally:
        mark(f"{how} cleaned")


@signals.task_revoked.connect
def revoked(sender=None, request=None, expired=None, terminated=None, signum=None, **_):
    with open("revoked.txt", "a") as heard:
        heard.write(f"{sender.name} {request.id} {expired} {terminated}{f' {signum:d}' if signum else ''}\\n")
"""


@pytest.fixture
def worker(work: Work) -> Running:
    with (work.stack.folder / "contract_tasks.py").open("a") as module:
        module.write(_TASKS)
    return work.start(LEDGERQ_WORKER_CONCURRENCY="2")


def lines(work: Work, name: str) -> list[str]:
    path = work.stack.folder / name
    return path.read_text().splitlines() if path.exists() else []


def ask(app: Celery, command: str, **arguments: object) -> None:
    """Broadcast a command, when a worker hears: it answers."""
    wait.until(lambda: app.control.ping(timeout=1.0), 30)
    assert app.control.broadcast(command, arguments, reply=True, timeout=5.0, limit=1)


def test_an_id_that_was_revoked_before_its_message_came_never_runs(work: Work, worker: Running, client_app: Celery):
    ask(client_app, "revoke", task_id=["early", "earlier"])
    early = client_app.send_task("contract_tasks.mark", ("early",), task_id="early")
    later = client_app.send_task("contract_tasks.mark", ("earlier",), task_id="earlier", countdown=2)
    other = client_app.send_task("contract_tasks.mark", ("other",))
    assert other.get(timeout=30) == "other"
    for result in (early, later):
        wait.until(lambda one=result: one.state == "REVOKED", 30, what=worker.log)
    assert lines(work, "marks.txt") == ["other"]
    assert "early" in client_app.control.inspect(timeout=2.0).revoked().popitem()[1]
    wait.until(lambda: len(lines(work, "revoked.txt")) == 2, 10)
    assert set(lines(work, "revoked.txt")) == {f"contract_tasks.mark {one} False False" for one in ("early", "earlier")}


def test_a_group_and_stamped_tasks_are_revoked_wherever_they_are(
    work: Work, worker: Running, client_app: Celery, client: redis.Redis
):
    gate = work.stack.folder / "go"
    blockers = [client_app.send_task("contract_tasks.wait_for_file", (str(gate),)) for _ in range(2)]
    running = "SELECT count(*) FROM task WHERE state = 'STARTED'"
    wait.until(lambda: databases.rows(work.database_url, running) == [(2,)], 30, what=worker.log)
    mark = client_app.signature("contract_tasks.mark")
    many = group([mark.clone(("group",)) for _ in range(3)], app=client_app).apply_async()
    stamps = {"stamps": {"order": "4711"}, "stamped_headers": ["order"]}
    waiting = [
        client_app.send_task("contract_tasks.mark", ("stamped",), headers=stamps),
        client_app.send_task("contract_tasks.mark", ("stamped",), headers=stamps, countdown=60),
        client_app.send_task("contract_tasks.mark", ("listed",), headers={"stamps": {"order": ["1", "4711"]}}),
    ]
    other = client_app.send_task("contract_tasks.mark", ("other",), headers={"stamps": {"order": "1"}})
    wait.until(lambda: client.llen("default") == 0, 30, what=worker.log)
    many.revoke()
    ask(client_app, "revoke_by_stamped_headers", headers={"order": ["4711"]})
    late = client_app.send_task("contract_tasks.mark", ("stamped late",), headers=stamps)
    revoked = [*many.results, *waiting, late]
    wait.until(lambda: [one.state for one in revoked] == ["REVOKED"] * 7, 30, what=worker.log)
    gate.touch()
    assert other.get(timeout=30) == "other"
    for one in blockers:
        one.get(timeout=30)
    assert lines(work, "marks.txt") == ["other"]
    wait.until(lambda: len(lines(work, "revoked.txt")) == 7, 10)


def test_a_terminated_task_cleans_up_and_is_killed_only_if_it_does_not_end(
    work: Work, worker: Running, client_app: Celery
):
    ended = {
        "usual": ("SIGTERM", ["begun", "cleaned"], "True 15"),
        "raises": (None, ["begun", "cleaned"], "True 15"),
        "stubborn": ("SIGTERM", ["begun"], "True 15"),
        "killed": ("SIGKILL", ["begun"], "True 9"),
    }
    heard = set()
    for how, (signal, marks, told) in ended.items():
        sent = client_app.send_task("contract_tasks.careful", (how,))
        wait.until(lambda h=how: f"{h} begun" in lines(work, "marks.txt"), 30, what=worker.log)
        ask(client_app, "revoke", task_id=sent.id, terminate=True, signal=signal)
        wait.until(lambda one=sent: one.state == "REVOKED", 40, what=worker.log)
        assert [line for line in lines(work, "marks.txt") if line.startswith(how)] == [
            f"{how} {what}" for what in marks
        ]
        heard.add(f"contract_tasks.careful {sent.id} False {told}")
    wait.until(lambda: len(lines(work, "revoked.txt")) == len(ended), 30)
    assert set(lines(work, "revoked.txt")) == heard


def test_a_tasks_own_handler_of_sigterm_gets_the_signal_and_decides(work: Work, worker: Running, client_app: Celery):
    sent = client_app.send_task("contract_tasks.careful", ("handles",))
    wait.until(lambda: "handles begun" in lines(work, "marks.txt"), 30, what=worker.log)
    ask(client_app, "revoke", task_id=sent.id, terminate=True)
    wait.until(lambda: sent.state == "SUCCESS", 40, what=worker.log)
    assert lines(work, "marks.txt") == ["handles begun", "handled", "handles cleaned"]
    assert client_app.send_task("contract_tasks.mark", ("next",)).get(timeout=30) == "next"


def test_a_handler_hears_once_that_a_task_has_expired(work: Work, worker: Running, client_app: Celery):
    gate = work.stack.folder / "go"
    for _ in range(2):
        client_app.send_task("contract_tasks.wait_for_file", (str(gate),))
    running = "SELECT count(*) FROM task WHERE state = 'STARTED'"
    wait.until(lambda: databases.rows(work.database_url, running) == [(2,)], 30, what=worker.log)
    late = client_app.send_task("contract_tasks.mark", ("late",), expires=1)
    wait.until(lambda: late.state == "REVOKED", 30)
    wait.until(lambda: bool(lines(work, "revoked.txt")), 10)
    assert lines(work, "revoked.txt") == [f"contract_tasks.mark {late.id} True False"]
    gate.touch()


def test_an_id_that_ended_runs_again_and_the_history_of_both_runs_stays(
    work: Work, worker: Running, client_app: Celery
):
    api = work.stack.api()
    for number, what in enumerate("abc"):
        client_app.send_task("contract_tasks.mark", (what,), task_id="t1")
        wait.until(lambda n=number: len(lines(work, "marks.txt")) == n + 1, 30, what=worker.log)
        wait.until(lambda w=what: AsyncResult("t1", app=client_app).result == w, 30)
    assert lines(work, "marks.txt") == ["a", "b", "c"]
    seen = []
    found = http.request("GET", f"{api.url}/tasks/t1").json()
    while found:
        seen.append((found["celery_id"], found["status"], found["result"]))
        events = http.request("GET", f"{api.url}/tasks/{found['task_id']}/events").json()["events"]
        assert [event["kind"] for event in events] == ["submitted", "dispatched", "started", "succeeded"]
        found = found["rerun_of"] and http.request("GET", f"{api.url}/tasks/{found['rerun_of']}").json()
    assert seen == [("t1", "SUCCESS", "c"), (None, "SUCCESS", "b"), (None, "SUCCESS", "a")]


def test_an_id_is_used_again_by_tasks_and_by_frozen_signatures(work: Work, worker: Running, client_app: Celery):
    client_app.send_task("contract_tasks.sends", ("own",)).get(timeout=30)
    assert lines(work, "marks.txt") == ["first", "second"]
    frozen = client_app.signature("contract_tasks.mark", ("frozen",))
    frozen.freeze()
    for count in (3, 4):
        frozen.apply_async()
        wait.until(lambda n=count: len(lines(work, "marks.txt")) == n, 30, what=worker.log)
        ended = "SELECT count(*) FROM task WHERE completed_at IS NULL"
        wait.until(lambda e=ended: databases.rows(work.database_url, e) == [(0,)], 30)


def test_a_chain_with_a_frozen_step_runs_again_to_its_end(work: Work, worker: Running, client_app: Celery):
    first, step, last = (
        client_app.signature("contract_tasks.mark", (what,), immutable=True) for what in ("first", "step", "last")
    )
    step.freeze()
    for count in (3, 6):
        chain(first, step, last, app=client_app).apply_async()
        wait.until(lambda n=count: len(lines(work, "marks.txt")) == n, 30, what=worker.log)
        unfinished = "SELECT count(*) FROM task WHERE completed_at IS NULL"
        wait.until(lambda of=unfinished: databases.rows(work.database_url, of) == [(0,)], 30)
    assert lines(work, "marks.txt") == ["first", "step", "last"] * 2
    repeated = "SELECT count(*) FROM task WHERE rerun_of IS NOT NULL"
    assert databases.rows(work.database_url, repeated) == [(1,)]


def test_a_message_that_is_delivered_twice_runs_once_also_when_its_task_has_ended(
    work: Work, worker: Running, client_app: Celery, producer: Celery, client: redis.Redis
):
    client_app.send_task("contract_tasks.mark", ("kept",), task_id="t2", queue="elsewhere")
    [raw] = client.lrange("elsewhere", 0, -1)  # type: ignore[misc]
    for _ in range(3):
        client.lpush("default", raw, raw)
        wait.until(lambda: client.llen("default") == 0, 30, what=worker.log)
        wait.until(lambda: AsyncResult("t2", app=client_app).result == "kept", 30)
    client_app.send_task("contract_tasks.mark", ("last",)).get(timeout=30)
    assert lines(work, "marks.txt") == ["kept", "last"]
    rows = databases.rows(work.database_url, "SELECT count(*) FROM task")
    assert rows == [(2,)]
