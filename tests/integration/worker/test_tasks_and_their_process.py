"""What a task, or somebody else, may do to the task's process: signals, forks, alarms, programs. Its neighbours and
its record are right all the same.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from ledgerq_shared.postgres.database import execute
from ledgerq_shared.statements.cancel import request_cancel
from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.worker.conftest import Work
    from tests.support.stack import Running

_POOLS = ["prefork", "threads", "solo"]

_MODULE = """
import multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from celery import Task, shared_task
from clients.celery.base_tasks import DatabaseAwareTask

def note(name, text="ran"):
    with open(name, "a") as file:
        file.write(f"{text}\\n")

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)

@shared_task
def waits(path, gate):
    note(path, os.getpid())
    wait_for(gate)
    return "done"

@shared_task
def pid():
    return os.getpid()

@shared_task(bind=True, base=DatabaseAwareTask)
def forks(self, how):
    child = os.fork()
    if child:
        note("children", child)
        _, status = os.waitpid(child, 0)
        return ["parent", os.waitstatus_to_exitcode(status)]
    self.update_progress(50, "the child")
    if how == "raises":
        raise ValueError("the child")
    if how == "exits":
        sys.exit(7)
    return "the child"

@shared_task
def leaves_an_alarm(seconds):
    def strike(number, frame):
        raise RuntimeError("an alarm of another task")
    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)

@shared_task
def leaves_an_alarm_without_a_handler(seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)

@shared_task
def leaves_handlers():
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, lambda *_: note("struck"))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

@shared_task
def exit_code_of_a_program():
    return subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode

@shared_task
def sleeps(seconds):
    time.sleep(seconds)
    return "slept"

@shared_task(soft_time_limit=0.3)
def has_an_alarm_and_a_soft_limit():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(60)
    time.sleep(30)

class Slow:
    def model_dump(self, mode):
        time.sleep(30)

@shared_task(soft_time_limit=0.3)
def returns_something_slow():
    return {"slow": Slow()}

@shared_task(soft_time_limit=0.3, track_started=True)
def returns_something_slow_by_celerys_own_tracer():
    return {"slow": Slow()}

class Calls(Task):
    def __call__(self, *args, **kwargs):
        time.sleep(30)
        return super().__call__(*args, **kwargs)

@shared_task(base=Calls, soft_time_limit=0.3)
def is_called_slowly():
    pass

@shared_task(soft_time_limit=0.05)
def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "in time"

@shared_task
def depth_of_celerys_stack():
    from celery._state import _task_stack
    return len(_task_stack.stack)

@shared_task
def starts_programs():
    subprocess.Popen(f"{sys.executable} -c 'import time; time.sleep(600)' & echo $! >> programs", shell=True).wait()
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    note("programs", program.pid)
    program.wait()

def square(number):
    return number * number

@shared_task
def computes_in_processes(how):
    if how == "pool":
        with multiprocessing.Pool(2) as pool:
            return pool.map(square, [1, 2, 3])
    if how == "executor":
        with ProcessPoolExecutor(2) as executor:
            return list(executor.map(square, [1, 2, 3]))
    process = multiprocessing.Process(target=time.sleep, args=(600,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode
"""


@pytest.fixture
def world(work: Work) -> Work:
    (work.stack.folder / "world_tasks.py").write_text(_MODULE)
    return work


def _start(work: Work, pool: str = "prefork", slots: int = 1, **environment: str) -> Running:
    return work.stack.worker(
        LEDGERQ_TASK_MODULES="world_tasks",
        LEDGERQ_WORKER_POOL=pool,
        LEDGERQ_WORKER_CONCURRENCY=str(slots),
        **environment,
    )


def _noted(work: Work, name: str, lines: int = 1) -> list[str]:
    """What tasks have written there, once there are so many lines."""
    path: Path = work.stack.folder / name
    wait.until(lambda: path.exists() and path.read_text().count("\n") >= lines, 30, what=work.stack.logs)
    return path.read_text().split()


def _family(worker: Running) -> list[int]:
    """The node's processes, the parent last: it may begin to stop the others when it gets the signal."""
    return [*(child.pid for child in psutil.Process(worker.pid).children(recursive=True)), worker.pid]


def _is_alive(pid: str) -> bool:
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("pool", "number"),
    [*((pool, signal.SIGTERM) for pool in _POOLS), ("prefork", signal.SIGINT), ("prefork", signal.SIGHUP)],
)
def test_what_ends_a_whole_group_of_processes_leaves_a_running_task_its_grace(world: Work, pool: str, number: int):
    worker = _start(world, pool)
    task_id = world.submit("world_tasks.waits", path="begun", gate="go")
    _noted(world, "begun")
    for pid in _family(worker):
        os.kill(pid, number)
    wait.until(lambda: databases.rows(world.database_url, "SELECT 1 FROM worker WHERE stopping"), 30, what=worker.log)
    (world.stack.folder / "go").touch()
    assert worker.wait() == 0
    row = world.row(task_id)
    assert (row.state, row.result, row.attempt) == ("SUCCESS", "done", 1), worker.log()
    ledger_checks.assert_all_ended(world.database_url, [task_id])


@pytest.mark.parametrize("pool", _POOLS)
def test_sigquit_to_all_processes_gives_a_running_task_back_uncharged(world: Work, pool: str):
    worker = _start(world, pool)
    task_id = world.submit("world_tasks.waits", path="begun", gate="never")
    _noted(world, "begun")
    for pid in _family(worker):
        os.kill(pid, signal.SIGQUIT)
    assert worker.wait() == 0
    assert (world.row(task_id).state, world.row(task_id).worker_deaths) == ("PENDING", 0), worker.log()
    assert not worker.descendants()
    ledger_checks.assert_sound(world.database_url)


@pytest.mark.parametrize("pool", _POOLS)
def test_signals_that_mean_other_programs_do_nothing_to_a_running_task(world: Work, pool: str):
    worker = _start(world, pool)
    task_id = world.submit("world_tasks.waits", path="begun", gate="go")
    _noted(world, "begun")
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH):
        for pid in _family(worker):
            if number != signal.SIGALRM or pid != _agent_of(worker):
                os.kill(pid, number)
    (world.stack.folder / "go").touch()
    row = world.ended(task_id)
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0), worker.log()
    assert worker.alive()


def _agent_of(worker: Running) -> int:
    return next(
        child.pid for child in psutil.Process(worker.pid).children() if "ledgerq_worker.node.agent" in child.cmdline()
    )


def test_a_pool_process_that_alone_is_told_to_end_ends_its_task_first_and_is_replaced(world: Work):
    _start(world)
    task_id = world.submit("world_tasks.waits", path="begun", gate="go")
    [pid] = _noted(world, "begun")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(int(pid), number)
    (world.stack.folder / "go").touch()
    row = world.ended(task_id)
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0)
    wait.until(lambda: not _is_alive(pid), 30, what="the end of the pool process")
    assert world.run("world_tasks.pid").result != int(pid)


@pytest.mark.parametrize("pool", _POOLS)
def test_a_child_that_comes_out_of_a_tasks_function_ends_there_and_records_nothing(world: Work, pool: str):
    _start(world, pool)
    for how, code in (("returns", 0), ("raises", 1), ("exits", 7)):
        task_id = world.submit("world_tasks.forks", how=how)
        row = world.ended(task_id)
        assert (row.state, row.result, row.progress) == ("SUCCESS", ["parent", code], None)
        ledger_checks.assert_sound(world.database_url)
    assert world.run("world_tasks.sleeps", seconds=0).state == "SUCCESS"
    assert not any(map(_is_alive, _noted(world, "children", 3)))


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_alarms_and_handlers_of_a_task_end_with_it(world: Work, pool: str):
    worker = _start(world, pool)
    for name in ("leaves_an_alarm", "leaves_an_alarm_without_a_handler"):
        assert world.run(f"world_tasks.{name}", seconds=0.3).state == "SUCCESS"
        row = world.run("world_tasks.sleeps", seconds=0.6)
        assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0), row
    assert world.run("world_tasks.leaves_handlers").state == "SUCCESS"
    assert world.run("world_tasks.exit_code_of_a_program").result == 3
    os.kill(world.run("world_tasks.pid").result, signal.SIGUSR1)
    assert world.run("world_tasks.sleeps", seconds=0).state == "SUCCESS"
    assert not (world.stack.folder / "struck").exists()
    assert worker.alive()


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_an_alarm_of_the_tasks_own_does_not_switch_its_soft_limit_off(world: Work, pool: str):
    _start(world, pool)
    assert world.run("world_tasks.has_an_alarm_and_a_soft_limit").error["type"] == "SoftTimeLimitExceeded"


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_soft_limit_that_strikes_around_the_end_of_a_task_is_a_soft_limit_and_leaves_nothing_behind(
    world: Work, pool: str
):
    _start(world, pool)
    if pool == "prefork":  # threads are not interrupted while they sleep
        for name in (
            "returns_something_slow",
            "returns_something_slow_by_celerys_own_tracer",
            "is_called_slowly",
        ):
            assert world.run(f"world_tasks.{name}").error["type"] == "SoftTimeLimitExceeded", name
    ids = [world.submit("world_tasks.busy", seconds=0.0497 + 0.000004 * number) for number in range(100)]
    ends = [world.ended(task_id) for task_id in ids]
    kinds = {(row.state, (row.error or {}).get("type")) for row in ends}
    assert kinds <= {("SUCCESS", None), ("FAILURE", "SoftTimeLimitExceeded")}
    assert world.run("world_tasks.depth_of_celerys_stack").result == 1


@pytest.mark.parametrize("end", ["hard limit", "terminate", "switched off"])
def test_programs_that_a_task_has_started_end_with_it_when_it_is_killed(world: Work, end: str):
    from ledgerq_shared.statements.submit import NewTaskOptions

    _start(world, LEDGERQ_KILL_PROGRAMS="false" if end == "switched off" else "true")
    options = NewTaskOptions(time_limit=1.5) if end != "terminate" else None
    task_id = world.submit("world_tasks.starts_programs", options)
    programs = _noted(world, "programs", 2)
    try:
        if end == "terminate":
            with world.database.transaction() as cursor:
                assert execute(cursor, request_cancel(task_id, actor="test", terminate=True))
        row = world.ended(task_id)
        assert row.state == ("REVOKED" if end == "terminate" else "FAILURE")
        if end == "switched off":
            assert world.run("world_tasks.sleeps", seconds=0).state == "SUCCESS"  # the slot has a new process
            assert all(map(_is_alive, programs))
        else:
            wait.until(lambda: not any(map(_is_alive, programs)), 10, what="the programs' end")
    finally:
        for pid in filter(_is_alive, programs):
            os.kill(int(pid), signal.SIGKILL)


def test_multiprocessing_works_in_a_task(world: Work):
    _start(world)
    assert world.run("world_tasks.computes_in_processes", how="pool").result == [1, 4, 9]
    assert world.run("world_tasks.computes_in_processes", how="executor").result == [1, 4, 9]
    assert world.run("world_tasks.computes_in_processes", how="process").result == -signal.SIGTERM
