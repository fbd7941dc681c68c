"""Deaths and outages: what was accepted ends, without anybody's help."""

from __future__ import annotations

import os
import signal

import psutil
import redis

from ledgerq_shared.embedded import EmbeddedServers
from ledgerq_shared.embedded.processes import Process
from tests.integration.worker.conftest import Work
from tests.support import databases, ledger_checks, wait


def _is_running(work: Work, task_id: str) -> bool:
    row = work.row(task_id)
    return row.state == "STARTED" and (row.progress or 0) > 0


def _command(process: Process) -> str:
    return " ".join(psutil.Process(process.pid).cmdline())


def test_a_task_whose_worker_is_killed_finishes_on_another_without_any_manual_step(work: Work):
    first = work.start()
    task_id = work.submit("steps", count=40, pause=0.1)
    wait.until(lambda: _is_running(work, task_id), 30, what=first.log)
    first.kill()
    work.start()
    row = work.ended(task_id, 60)
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 2, 1)
    wait.until(lambda: first.descendants() == [], 30, what="the dead worker's processes")
    ledger_checks.assert_all_ended(work.database_url, [task_id])


def test_a_killed_pool_process_costs_one_attempt_of_the_task_that_ran(work: Work):
    worker = work.start(LEDGERQ_WORKER_CONCURRENCY="1")
    task_id = work.submit("steps", count=40, pause=0.1)
    wait.until(lambda: _is_running(work, task_id), 30, what=worker.log)
    waiting = [work.submit("add", x=1, y=number) for number in range(20)]
    [child] = [process for process in worker.descendants() if "agent" not in _command(process)]
    os.kill(child.pid, signal.SIGKILL)
    assert work.ended(task_id, 60).attempt == 2
    assert {work.ended(one).attempt for one in waiting} == {1}
    ledger_checks.assert_all_ended(work.database_url, [task_id, *waiting])


def test_an_agent_that_dies_is_replaced_and_no_task_starts_twice(work: Work):
    worker = work.start(LEDGERQ_LEASE_SECONDS="2")
    task_id = work.submit("steps", count=60, pause=0.1)
    wait.until(lambda: _is_running(work, task_id), 30, what=worker.log)
    [agent] = [process for process in worker.descendants() if "agent" in _command(process)]
    os.kill(agent.pid, signal.SIGKILL)

    def is_replaced() -> bool:
        return any("agent" in _command(process) and process.pid != agent.pid for process in worker.descendants())

    wait.until(is_replaced, 30, what=worker.log)
    row = work.ended(task_id, 60)
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0)


def test_sigterm_lets_the_running_task_end_and_hands_back_the_rest(work: Work):
    worker = work.start(LEDGERQ_WORKER_CONCURRENCY="1")
    running = work.submit("steps", count=30, pause=0.1)
    wait.until(lambda: _is_running(work, running), 30, what=worker.log)
    waiting = [work.submit("add", x=1, y=number) for number in range(50)]
    assert worker.stop() == 0
    assert (work.row(running).state, work.row(running).attempt) == ("SUCCESS", 1)
    assert databases.rows(work.database_url, "SELECT count(*) FROM claim") == [(0,)]
    ledger_checks.assert_sound(work.database_url)
    work.start()
    assert {work.ended(one).attempt for one in waiting} == {1}


def test_a_task_that_outlives_the_grace_period_is_returned_uncharged(work: Work):
    worker = work.start(LEDGERQ_GRACE_SECONDS="1")
    task_id = work.submit("steps", count=600, pause=0.1)
    wait.until(lambda: _is_running(work, task_id), 30, what=worker.log)
    worker.stop()
    assert (work.row(task_id).state, work.row(task_id).worker_deaths) == ("PENDING", 0)
    ledger_checks.assert_sound(work.database_url)


def test_flushall_with_500_tasks_waiting_loses_none(work: Work, own_servers: EmbeddedServers):
    redis_url = own_servers.start().redis_url
    client = redis.Redis.from_url(redis_url)
    work.broker = type(work.broker)(redis_url, client_name="test")
    work.stack.environment["REDIS_URL"] = redis_url
    work.stack.maintenance(LEDGERQ_TASK_MODULES="contract_tasks")
    accepted = [work.submit("add", x=1, y=number) for number in range(500)]
    client.flushall()
    work.start()
    wait.until(lambda: work.row(accepted[0]).state == "SUCCESS", 30, what="the first")
    client.flushall()
    for task_id in accepted:
        assert work.ended(task_id, 60).state == "SUCCESS"
    ledger_checks.assert_all_ended(work.database_url, accepted)
    client.close()
