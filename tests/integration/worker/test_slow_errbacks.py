"""Errbacks are the users' code: none runs in a transaction or in the maintenance process's way, nor again for ever."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import execute
from ledgerq_shared.statements.outbox import put_in_outbox
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.states import State
from tests.support import databases, http, ledger_checks, wait
from tests.support.lives import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.worker.conftest import Work

_MODULE = """
import os, time
from celery import shared_task

def note(name):
    with open(name, "a") as file:
        file.write("ran\\n")

@shared_task
def waits(request, exc, traceback):
    note("waits.txt")
    while not os.path.exists("go"):
        time.sleep(0.02)
    note("ended.txt")

@shared_task
def kills(request, exc, traceback):
    note("kills.txt")
    os._exit(3)

@shared_task
def tells(request, exc, traceback):
    note("tells.txt")
"""
_IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
)


@pytest.fixture
def told(work: Work) -> Iterator[Work]:
    """Maintenance knows the errbacks."""
    (work.stack.folder / "errbacks.py").write_text(_MODULE)
    [maintenance] = work.stack.started
    maintenance.stop()
    work.stack.maintenance(LEDGERQ_TASK_MODULES="contract_tasks,errbacks")
    yield work
    (work.stack.folder / "go").touch()


def _ran(work: Work, name: str) -> int:
    path = work.stack.folder / f"{name}.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def _left_behind(work: Work, *errbacks: str) -> list[str]:
    """Tasks failed, and their worker died after its commit, before it could tell anybody. Their ids."""
    tasks = [
        NewTask(
            new_task_id(), "demo.anything", "default", "{}",
            options=NewTaskOptions(celery=json.dumps({"errbacks": [_signature(name)]})),
        )
        for name in errbacks
    ]  # fmt: skip
    with Worker(work.database_url) as worker:
        with work.database.transaction() as cursor:
            execute(cursor, submit_tasks(tasks))
        for claimed in worker.claim().values():
            worker.end(claimed, State.FAILURE, error={"type": "E", "message": "", "traceback": "", "retryable": True})
        with work.database.transaction() as cursor:
            execute(cursor, put_in_outbox("outcome", [json.dumps({"task_id": str(task.id)}) for task in tasks]))
    return [str(task.id) for task in tasks]


def _signature(name: str) -> dict[str, Any]:
    return {"task": f"errbacks.{name}", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}


def _undelivered(work: Work) -> dict[str, tuple[object, ...]]:
    """What the histories say of errbacks that were given up: for each task the actor, the attempts and the error."""
    found = databases.rows(
        work.database_url,
        "SELECT task_id::text, actor, data->'attempts', data->>'error' FROM task_event WHERE kind = 'delivery_failed'",
    )
    return {str(row[0]): row[1:] for row in found}


def test_an_errback_runs_once_and_in_no_transaction_however_long_it_takes(told: Work, redis_database: str):
    told.stack.worker(LEDGERQ_TASK_MODULES="contract_tasks,errbacks")
    app = Celery("producer", broker=redis_database, backend=redis_database)
    app.conf.task_default_queue = "default"
    app.send_task("contract_tasks.fails", ("x",), link_error=app.signature("errbacks.waits"))
    wait.until(lambda: _ran(told, "waits"), 30, what="the errback begins")
    assert databases.rows(told.database_url, _IN_TRANSACTION) == [(0,)]
    # Maintenance looks for what was left behind, and finds that this is being done.
    databases.execute(told.database_url, "UPDATE outbox SET created_at = now() - interval '1 minute'")
    _left_behind(told, "tells")
    wait.until(lambda: _ran(told, "tells"), 30, what="what was left behind is done")
    (told.stack.folder / "go").touch()
    wait.until(lambda: not databases.rows(told.database_url, "SELECT 1 FROM outbox"), 30, what="it is done")
    assert (_ran(told, "waits"), _ran(told, "ended")) == (1, 1)
    app.close()


def test_an_errback_that_maintenance_finds_keeps_no_duty_waiting(told: Work):
    _left_behind(told, "waits")
    wait.until(lambda: _ran(told, "waits"), 30, what="the errback begins")
    assert databases.rows(told.database_url, _IN_TRANSACTION) == [(0,)]
    due = told.submit("contract_tasks.add", NewTaskOptions(countdown=0.1), x=1, y=2)
    ready = "SELECT 1 FROM ready WHERE task_id = %s"
    wait.until(lambda: databases.rows(told.database_url, ready, (due,)), 30, what="what is due is promoted")
    assert not _ran(told, "ended")


def test_an_errback_that_ends_its_process_is_given_up_and_its_neighbours_are_not(told: Work):
    [*_, maintenance] = told.stack.started
    tasks = _left_behind(told, "tells", "kills", "tells")

    def is_over() -> bool:
        # The lease of what a dead process was doing is over at once.
        databases.execute(told.database_url, "UPDATE outbox SET taken_until = now() WHERE taken_until > now()")
        return not databases.rows(told.database_url, "SELECT 1 FROM outbox")

    wait.until(is_over, 90, interval=1.0, what=maintenance.log)
    assert _ran(told, "kills") == 3
    assert _ran(told, "tells") >= 2
    assert "outbox.given_up" in maintenance.log()
    assert _undelivered(told) == {
        tasks[1]: ("maintenance", 3, "it did not come to an end: it ended its process, or took too long")
    }
    url = told.stack.api().url
    [*_, last] = http.request("GET", f"{url}/tasks/{tasks[1]}/events").json()["events"]
    assert (last["kind"], last["data"]["what"]) == ("delivery_failed", "outcome")
    assert http.request("GET", f"{url}/tasks/{tasks[1]}").json()["status"] == "FAILURE"
    assert http.request("POST", f"{url}/tasks/{tasks[1]}/retry").status == 202
    assert ledger_checks.problems(told.database_url) == []
