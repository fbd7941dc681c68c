"""What a worker's death means for the task that ran, for those beside it, and for those who wait for its result."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError

from ledgerq_shared.embedded.processes import of_launch
from ledgerq_shared.statements.submit import NewTaskOptions
from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from tests.integration.worker.conftest import Work
    from tests.support.stack import Running

_MODULE = """
import os, signal, time
from celery import shared_task

def note(name):
    with open(name, "a") as file:
        file.write("ran\\n")

@shared_task(on_worker_lost="fail")
def dies_once(path):
    note(path)
    os.kill(os.getpid(), signal.SIGKILL)

@shared_task(on_worker_lost="fail")
def quick_once(path):
    note(path)

@shared_task(on_worker_lost="fail")
def long_once(path):
    note(path)
    time.sleep(600)

@shared_task
def kills():
    os.kill(os.getpid(), signal.SIGKILL)

@shared_task
def kills_beside(others):
    # A killer that waits for its neighbours to be running.
    while not all(os.path.exists(other) and os.path.getsize(other) for other in others):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

@shared_task
def innocent(path):
    note(path)
    if open(path).read().count("ran") == 1:
        time.sleep(600)  # until the neighbour has killed the process
    return "done"
"""


@pytest.fixture
def lost(work: Work) -> Work:
    (work.stack.folder / "lost_tasks.py").write_text(_MODULE)
    return work


def _start(work: Work, **environment: str) -> Running:
    return work.stack.worker(LEDGERQ_TASK_MODULES="contract_tasks,lost_tasks", **environment)


def _runs(work: Work, name: str) -> int:
    path = work.stack.folder / name
    return path.read_text().count("ran") if path.exists() else 0


def test_a_task_that_must_not_run_twice_does_not_even_if_it_dies_at_once(lost: Work):
    names = [f"quick-{number}.txt" for number in range(20)]
    quick = [lost.submit("lost_tasks.quick_once", path=name) for name in names]
    killer = lost.submit("lost_tasks.dies_once", path="killer.txt")
    more = [lost.submit("lost_tasks.quick_once", path=f"more-{number}.txt") for number in range(20)]
    _start(lost, LEDGERQ_WORKER_CONCURRENCY="1")
    row = lost.ended(killer)
    assert (row.state, row.error["type"], row.attempt) == ("FAILURE", "WorkerLost", 1)
    assert {lost.ended(task_id).state for task_id in (*quick, *more)} == {"SUCCESS"}
    assert {_runs(lost, name) for name in ["killer.txt", *names]} == {1}
    ledger_checks.assert_all_ended(lost.database_url, [*quick, killer, *more])


def test_a_task_that_must_not_run_twice_is_not_handed_back_when_the_grace_period_ends(lost: Work):
    worker = _start(lost, LEDGERQ_GRACE_SECONDS="0.5")
    task_id = lost.submit("lost_tasks.long_once", path="long.txt")
    wait.until(lambda: _runs(lost, "long.txt") == 1, 30, what=worker.log)
    worker.stop()
    row = lost.row(task_id)
    assert (row.state, row.error["type"], row.worker_deaths) == ("FAILURE", "WorkerLost", 0)
    ledger_checks.assert_all_ended(lost.database_url, [task_id])


def test_the_number_of_deaths_before_quarantine_is_a_setting(lost: Work):
    _start(lost, LEDGERQ_QUARANTINE_AFTER="1")
    row = lost.run("lost_tasks.kills")
    assert (row.error["type"], row.worker_deaths, row.attempt) == ("TaskQuarantined", 1, 1)


def test_on_threads_a_killer_is_quarantined_and_its_neighbours_end_well(lost: Work):
    names = ["first.txt", "second.txt"]
    innocents = [lost.submit("lost_tasks.innocent", path=name) for name in names]
    killer = lost.submit("lost_tasks.kills_beside", others=names)
    for _ in range(3):
        worker = _start(lost, LEDGERQ_WORKER_POOL="threads", LEDGERQ_WORKER_CONCURRENCY="3")
        wait.until(lambda worker=worker: not worker.alive(), 60, what=worker.log)
    wait.until(lambda: lost.row(killer).state == "FAILURE", 30, what=lambda: str(lost.row(killer)))
    assert lost.row(killer).error["type"] == "TaskQuarantined"
    _start(lost, LEDGERQ_WORKER_POOL="threads", LEDGERQ_WORKER_CONCURRENCY="3")
    for task_id in innocents:
        row = lost.ended(task_id)
        assert (row.state, row.worker_deaths) == ("SUCCESS", 1)
    ledger_checks.assert_all_ended(lost.database_url, [killer, *innocents])


def test_who_waits_hears_of_ends_that_celerys_tracer_does_not_see(lost: Work, redis_database: str):
    app = Celery("producer", broker=redis_database, backend=redis_database)
    app.conf.task_default_queue = "default"
    expired = app.signature("contract_tasks.add").clone((1, 2)).apply_async(expires=0.2)
    _start(lost)
    exits = app.send_task("contract_tasks.exits", link_error=app.signature("contract_tasks.told_of_failure"))
    with pytest.raises(Exception, match="3"):
        exits.get(timeout=30)
    wait.until((lost.stack.folder / "told.txt").exists, 30, what="the errback")
    late = lost.submit("contract_tasks.add", NewTaskOptions(expires_at="2020-01-01T00:00:00Z"), x=1, y=2)
    assert lost.ended(late).state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        app.AsyncResult(late).get(timeout=30)
    # By now the message that waited in the broker is adopted, too late or just in time.
    wait.until(lambda: expired.state in ("REVOKED", "SUCCESS"), 30, what=lambda: expired.state)
    app.close()


def test_a_machine_that_slept_declares_nobody_dead_on_waking(lost: Work):
    [maintenance] = lost.stack.started
    worker = _start(lost, LEDGERQ_LEASE_SECONDS="2")
    maintenance.stop()
    maintenance = lost.stack.maintenance(LEDGERQ_LEASE_SECONDS="2", LEDGERQ_TASK_MODULES="contract_tasks")
    task_id = lost.submit("steps", count=80, pause=0.1)
    wait.until(lambda: (lost.row(task_id).progress or 0) > 0, 30, what=worker.log)
    maintenance.says("maintenance.leads")
    everything = [process for running in (worker, maintenance) for process in of_launch(running.token)]
    for process in everything:
        process.send(signal.SIGSTOP)
    over = "SELECT bool_and(lease_until < now() - interval '2 seconds') FROM worker WHERE ended_at IS NULL"
    wait.until(lambda: databases.rows(lost.database_url, over) == [(True,)], 30, what="the leases to run out")
    # Maintenance wakes first: the worst order.
    for process in reversed(everything):
        process.send(signal.SIGCONT)
    row = lost.ended(task_id, 60)
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0)
    maintenance.says("maintenance.time_was_lost")
    assert databases.rows(lost.database_url, "SELECT count(*) FROM worker WHERE ended_why = 'lost'") == [(0,)]
