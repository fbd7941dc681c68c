"""Cancelling what a worker runs or holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.errors import TaskIsFinal
from ledgerq_shared.postgres.database import execute
from ledgerq_shared.statements.queues import set_paused
from ledgerq_shared.states import State
from ledgerq_shared.tasks.cancelling import Cancelled, cancel
from tests.support import ledger_checks, wait

if TYPE_CHECKING:
    from tests.integration.worker.conftest import Work


def _cancel(work: Work, task_id: str, *, terminate: bool = False) -> Cancelled:
    with work.database.transaction() as cursor:
        return cancel(cursor, task_id, actor="test", terminate=terminate)


def _runs(work: Work, task_id: str) -> bool:
    return (work.row(task_id).progress or 0) > 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_running_task_that_asks_hears_of_its_cancellation(work: Work, pool: str):
    worker = work.start(LEDGERQ_WORKER_POOL=pool)
    task_id = work.submit("steps", count=600, pause=0.05)
    wait.until(lambda: _runs(work, task_id), 30, what=worker.log)
    assert _cancel(work, task_id).state is State.STARTED
    assert work.ended(task_id).state == "REVOKED"
    with pytest.raises(TaskIsFinal):
        _cancel(work, task_id)
    ledger_checks.assert_all_ended(work.database_url, [task_id])
    log = wait.until(lambda: worker.log() if "TaskCancelled" in worker.log() else None, 30, what=worker.log)
    assert "raised expected" in log  # that somebody cancelled it is no error
    assert "Traceback" not in log


def test_terminate_kills_the_process_and_blames_nobody(work: Work):
    worker = work.start(LEDGERQ_WORKER_CONCURRENCY="1")
    task_id = work.submit("far_too_slow_to_wait_for")
    wait.until(lambda: work.row(task_id).state == "STARTED", 30, what=worker.log)
    others = [work.submit("add", x=1, y=number) for number in range(20)]
    assert _cancel(work, task_id, terminate=True).terminate
    row = work.ended(task_id)
    assert (row.state, row.worker_deaths, row.attempt) == ("REVOKED", 0, 1)
    assert {work.ended(one).attempt for one in others} == {1}
    assert {work.row(one).worker_deaths for one in others} == {0}
    ledger_checks.assert_all_ended(work.database_url, [task_id, *others])


def test_a_cancellation_survives_the_restart_of_every_process(work: Work):
    worker = work.start()
    task_id = work.submit("far_too_slow_to_wait_for")
    wait.until(lambda: work.row(task_id).state == "STARTED", 30, what=worker.log)
    _cancel(work, task_id)
    for running in work.stack.started:
        running.kill()
    work.stack.maintenance(LEDGERQ_TASK_MODULES="contract_tasks")
    work.start()
    assert work.ended(task_id, 60).state == "REVOKED"
    ledger_checks.assert_all_ended(work.database_url, [task_id])


def test_a_paused_queue_begins_nothing_until_it_is_resumed(work: Work):
    def pause(*, paused: bool) -> None:
        with work.database.transaction() as cursor:
            execute(cursor, set_paused("default", paused=paused, make=True))

    pause(paused=True)
    worker = work.start()
    task_id = work.submit("add", x=1, y=2)
    worker.says("worker.registered")
    assert work.row(task_id).state == "PENDING"
    pause(paused=False)
    assert work.ended(task_id).result == 3
