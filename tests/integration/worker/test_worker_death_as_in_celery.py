"""What a worker's death means for tasks that came as plain Celery messages: what Celery's own options say, and nothing
runs twice that Celery would not run twice.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.exceptions import WorkerLostError

from ledgerq_shared.embedded.processes import of_launch
from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from tests.integration.worker.conftest import Work
    from tests.support.stack import Running

_MODULE = """
import os, signal, time
from celery import Celery, Task, shared_task

app = Celery("shop", backend="URL", broker="URL")
app.conf.task_default_queue = "default"
app.conf.update(eval(os.environ.get("SHOP", "{}")))


def note(name, what):
    handle = os.open(name, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(handle, f"{what}\\n".encode())
    os.close(handle)


def ran(name):
    return len(open(name).read().splitlines())


def dies_once(path):
    note(path, "ran")
    if ran(path) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "ok"


killed = app.task(name="shop.killed")(dies_once)
late = app.task(name="shop.late", acks_late=True)(dies_once)
rejected = app.task(name="shop.rejected", acks_late=True, reject_on_worker_lost=True)(dies_once)
sent_again = app.task(name="shop.sent_again", retry_on_worker_lost=True)(dies_once)
own = app.task(name="shop.own", on_worker_lost="rerun")(dies_once)


class Hooked(Task):
    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note("hooks.txt", f"on_failure {type(exc).__name__} {args}")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note("hooks.txt", f"after_return {status}")


hooked = app.task(name="shop.hooked", base=Hooked)(dies_once)


@app.task(name="shop.mark")
def mark(what):
    note("marks.txt", what)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return what


@app.task(name="shop.long")
def long(what):
    note("marks.txt", what)
    time.sleep(600)


@app.task(name="shop.errback")
def errback(request, exc, traceback):
    note("errbacks.txt", f"{type(exc).__name__} {request.args}")
"""


@pytest.fixture
def shop(work: Work, redis_database: str) -> Work:
    (work.stack.folder / "shop.py").write_text(_MODULE.replace("URL", redis_database))
    [maintenance] = work.stack.started
    maintenance.stop()
    work.stack.maintenance(LEDGERQ_CELERY_APP="shop:app", LEDGERQ_LEASE_SECONDS="2")
    return work


def start(work: Work, **environment: str) -> Running:
    environment = {"LEDGERQ_WORKER_CONCURRENCY": "1", "LEDGERQ_LEASE_SECONDS": "2", **environment}
    worker = work.stack.worker(LEDGERQ_CELERY_APP="shop:app", **environment)
    worker.says("worker.registered")
    return worker


def lines(work: Work, name: str) -> list[str]:
    path = work.stack.folder / name
    return path.read_text().splitlines() if path.exists() else []


def sent(app: Celery, name: str, *args: Any, **options: Any) -> AsyncResult[Any]:
    return app.send_task(f"shop.{name}", args, **options)


def states(work: Work) -> dict[str, str]:
    found = databases.rows(work.database_url, "SELECT coalesce(celery_id, id::text), state FROM task")
    return dict(found)  # type: ignore[arg-type]


def all_ended(work: Work) -> bool:
    return not databases.rows(work.database_url, "SELECT 1 FROM task WHERE completed_at IS NULL LIMIT 1")


def error_of(work: Work, result: AsyncResult[Any]) -> Any:
    [(error,)] = databases.rows(
        work.database_url, "SELECT error->>'type' FROM task WHERE celery_id = %s OR id::text = %s", (result.id,) * 2
    )
    return error


@pytest.mark.parametrize(
    ("name", "environment", "runs"),
    [
        ("killed", {}, 1),
        ("late", {}, 1),
        ("rejected", {}, 2),
        ("sent_again", {}, 2),
        ("own", {}, 2),
        ("killed", {"SHOP": "{'task_acks_late': True, 'task_reject_on_worker_lost': True}"}, 2),
        ("killed", {"LEDGERQ_ON_WORKER_LOST": "rerun"}, 2),
        ("rejected", {"LEDGERQ_ON_WORKER_LOST": "fail"}, 1),
    ],
)
def test_a_pool_process_that_dies_ends_its_task_as_celerys_options_say(
    shop: Work, client_app: Celery, name: str, environment: dict[str, str], runs: int
):
    start(shop, **environment)
    result = sent(client_app, name, "ran.txt")
    if runs == 1:
        with pytest.raises(WorkerLostError):
            result.get(timeout=60)
        assert error_of(shop, result) == "WorkerLost"
    else:
        assert result.get(timeout=60) == "ok"
    assert len(lines(shop, "ran.txt")) == runs
    assert ledger_checks.problems(shop.database_url) == []


def test_the_same_type_submitted_over_http_runs_again(shop: Work):
    start(shop)
    row = shop.run("shop.killed", path="http.txt")
    assert (row.state, row.attempt, len(lines(shop, "http.txt"))) == ("SUCCESS", 2, 2)


def test_who_waits_for_a_lost_task_and_its_hooks_are_told_once(shop: Work, client_app: Celery):
    start(shop)
    result = sent(client_app, "hooked", "ran.txt", link_error=client_app.signature("shop.errback"))
    with pytest.raises(WorkerLostError):
        result.get(timeout=60)
    wait.until(lambda: len(lines(shop, "hooks.txt")) == 2 and lines(shop, "errbacks.txt"), 30)
    assert lines(shop, "hooks.txt") == ["on_failure WorkerLostError ['ran.txt']", "after_return FAILURE"]
    assert lines(shop, "errbacks.txt") == ["WorkerLostError ['ran.txt']"]


def test_neighbours_of_a_type_that_nobody_knows_yet_are_unharmed(shop: Work, client_app: Celery):
    before = [sent(client_app, "mark", number) for number in range(60)]
    killer = sent(client_app, "killed", "ran.txt")
    after = [sent(client_app, "mark", number) for number in range(60, 120)]
    start(shop)
    wait.until(
        lambda: len(states(shop)) == 121 and all_ended(shop), 60, what=lambda: str(Counter(states(shop).values()))
    )
    assert states(shop)[killer.id] == "FAILURE"
    assert {states(shop)[one.id] for one in (*before, *after)} == {"SUCCESS"}
    assert sorted(map(int, lines(shop, "marks.txt"))) == list(range(120))
    assert ledger_checks.problems(shop.database_url) == []


def test_nothing_runs_twice_although_ends_died_unrecorded_with_a_process(shop: Work, client_app: Celery):
    # The process has met the type, so many are in one claim when one of them kills it.
    names = [str(number) for number in range(400)]
    names[150] = names[300] = "kill"
    results = [sent(client_app, "mark", name) for name in names]
    start(shop)
    wait.until(
        lambda: len(states(shop)) == 400 and all_ended(shop), 60, what=lambda: str(Counter(states(shop).values()))
    )
    marks = Counter(lines(shop, "marks.txt"))
    assert marks == Counter(names)  # each ran exactly once, whatever its end says
    final = states(shop)
    for name, result in zip(names, results, strict=True):
        assert final[result.id] == "FAILURE" if name == "kill" else final[result.id] in ("SUCCESS", "FAILURE")
    assert Counter(final.values())["SUCCESS"] > 0
    assert ledger_checks.problems(shop.database_url) == []


def test_a_worker_whose_parent_dies_ends_what_ran_and_hands_back_what_did_not(shop: Work, client_app: Celery):
    worker = start(shop)
    running = sent(client_app, "long", "long")
    waiting = [sent(client_app, "mark", number) for number in range(20)]
    wait.until(lambda: "long" in lines(shop, "marks.txt") and len(states(shop)) == 21, 30, what=worker.log)
    os.kill(worker.pid, signal.SIGKILL)
    wait.until(lambda: states(shop)[running.id] == "FAILURE", 30)
    start(shop)
    wait.until(lambda: all_ended(shop), 60)
    assert {states(shop)[one.id] for one in waiting} == {"SUCCESS"}
    assert Counter(lines(shop, "marks.txt")) == Counter(["long", *map(str, range(20))])
    assert ledger_checks.problems(shop.database_url) == []


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_when_a_whole_node_is_lost_nothing_runs_twice(shop: Work, client_app: Celery, pool: str):
    worker = start(shop, LEDGERQ_WORKER_CONCURRENCY="2", LEDGERQ_WORKER_POOL=pool)
    names = [str(number) for number in range(2000)]
    results = [sent(client_app, "mark", name) for name in names]
    wait.until(lambda: len(lines(shop, "marks.txt")) > 50, 60, what=worker.log)
    for process in of_launch(worker.token):
        process.send(signal.SIGKILL)
    wait.until(lambda: not worker.alive(), 30)
    start(shop)
    wait.until(
        lambda: len(states(shop)) == 2000 and all_ended(shop), 90, what=lambda: str(Counter(states(shop).values()))
    )
    assert max(Counter(lines(shop, "marks.txt")).values()) == 1
    final = states(shop)
    lost = [name for name, result in zip(names, results, strict=True) if final[result.id] == "FAILURE"]
    assert len(lost) <= 2 * 500  # no more than the claims of its slots
    assert set(lines(shop, "marks.txt")) | set(lost) == set(names)
    assert ledger_checks.problems(shop.database_url) == []
