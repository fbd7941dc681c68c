"""The lease agent finds a pool process dead: the task that ran at the death is charged, not one that ran a moment
before.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from ledgerq_shared.broker import Broker
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from ledgerq_worker import apart
from ledgerq_worker.drain.process import PoolProcess
from ledgerq_worker.node.agent import Agent
from ledgerq_worker.node.config import NodeConfig
from ledgerq_worker.slot.table import SlotRecord, SlotTable, lease_clock
from tests.support import databases, ledger_checks, refusals, wait
from tests.support.clocks import Clock
from tests.support.lives import Worker
from tests.support.replicated import Replicated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class _Table(SlotTable):
    """A table in which something happens right after one of its readings, as a slow agent would meet it."""

    readings_until_it_happens = 0
    happen: Callable[[], None]

    def read(self) -> list[SlotRecord]:
        found = super().read()
        self.readings_until_it_happens -= 1
        if self.readings_until_it_happens == 0:
            self.happen()
        return found


@pytest.fixture
def table() -> Iterator[_Table]:
    made = _Table.create(1)
    yield made
    made.remove()


@pytest.mark.parametrize("reading", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("ran_before", [False, True], ids=["between two tasks", "another task"])
def test_a_death_is_charged_to_the_task_that_began_after_the_slot_was_first_read(
    database: str,
    redis_database: str,
    table: _Table,
    pool_process: subprocess.Popen[bytes],
    ran_before: bool,
    reading: int,
):
    ledger = Database(database, application_name="test-agent")
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks([NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(2)]))
    with Worker(database) as node:
        table.worker_id = node.id
        before, at_death = node.claim().values()
        table.enter(0, pool_process.pid)
        if ran_before:
            table.begin(0, before.claim_no, str(before.id), 1.0, 0.0)

        def begin_and_die() -> None:
            table.begin(0, at_death.claim_no, str(at_death.id), 2.0, 0.0)
            pool_process.kill()
            pool_process.wait(10)

        def lines() -> Iterator[list[str]]:
            while pool_process.poll() is None:
                yield [f"lost {pool_process.pid}"]
            yield [f"lost {pool_process.pid}"]  # it may have died when the agent had looked
            yield ["stopped"]

        table.happen, table.readings_until_it_happens = begin_and_die, reading
        said = lines()
        agent = Agent(_config(table), ledger, Broker(redis_database, client_name="test-agent"), table, lambda: ledger)
        agent.run(lambda _: next(said))
    ledger.close()
    deaths = dict(databases.rows(database, "SELECT id::text, worker_deaths FROM task"))  # type: ignore[arg-type]
    assert deaths == {str(before.id): 0, str(at_death.id): 1}


@pytest.mark.parametrize("is_bad_one_running", [False, True])
def test_a_task_that_cannot_be_taken_back_holds_up_neither_its_neighbours_nor_its_slot(
    database: str,
    redis_database: str,
    table: _Table,
    pool_process: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    is_bad_one_running: bool,
):
    monkeypatch.setattr(apart, "_AGAIN_AFTER", 0.1)
    ledger = Database(database, application_name="test-agent")
    tasks = [NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(9)]
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks(tasks))
    ids = {str(task.id) for task in tasks}
    waiting = "SELECT task_id::text FROM ready"
    with Worker(database) as node:
        clock = Clock()
        broker = Broker(redis_database, client_name="test-agent")
        agent = Agent(_config(table), ledger, broker, table, lambda: ledger, clock=clock)
        agent.lease.begin(node.id, lease_clock())
        bad, other = list(node.claim().values())[3:5]
        table.enter(0, pool_process.pid)
        running = bad if is_bad_one_running else other
        table.begin(0, running.claim_no, str(running.id), 1.0, 0.0)
        pool_process.kill()
        pool_process.wait(10)
        refusals.refuse_rows(database, "P0001", on="ready", verb="INSERT", when=f"NEW.task_id = '{bad.id}'")
        agent.returning.return_dead()
        assert {row[0] for row in databases.rows(database, waiting)} == ids - {str(bad.id)}
        assert table.read() == [], "another process may use the slot"
        refusals.allow(database)
        table.rest(0)

        def is_back() -> bool:
            clock.now += 60.0
            agent.returning.return_orphans()
            return {row[0] for row in databases.rows(database, waiting)} == ids

        wait.until(is_back, 30)
    ledger.close()
    assert ledger_checks.problems(database) == []


@pytest.mark.parametrize(
    ("what", "is_replaced"),
    [("silent", True), ("signs", False), ("runs a task", False), ("postgresql is away", False)],
)
def test_a_slot_that_holds_tasks_and_begins_none_is_replaced_unless_it_may_take_its_time(
    database: str,
    redis_database: str,
    table: _Table,
    pool_process: subprocess.Popen[bytes],
    what: str,
    is_replaced: bool,
):
    ledger = Database(database, application_name="test-agent")
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks([NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(2)]))
    with Worker(database) as node:
        table.worker_id = node.id  # as an agent finds it that replaces another: the ledger has not answered this one
        agent = Agent(_config(table), ledger, Broker(redis_database, client_name="test-agent"), table, lambda: ledger)
        if what != "postgresql is away":
            agent.lease.begin(node.id, lease_clock())
        first, _ = node.claim().values()
        table.enter(0, pool_process.pid)
        if what == "runs a task":
            table.begin(0, first.claim_no, str(first.id), 1.0, 0.0)
        table.sign(0, within=-60.0)
        for _ in range(5):
            if what == "signs":
                table.sign(0)
            agent.stuck.replace(time.monotonic())
        agent.returning.return_killed()
    ledger.close()
    assert (pool_process.poll() is not None) == is_replaced
    assert table.occupant(0) == (0 if is_replaced else pool_process.pid)
    found = databases.rows(
        database, "SELECT t.state, t.worker_deaths, r.alone FROM task t LEFT JOIN ready r ON r.task_id = t.id"
    )
    assert found == [("PENDING", 0, False if is_replaced else None)] * 2


def test_while_a_commit_waits_for_a_standby_no_slot_stands_still(
    workspace: Path, redis_database: str, table: _Table, pool_process: subprocess.Popen[bytes]
):
    """A slot's result waits in its COMMIT; the node's lease is renewed meanwhile."""
    with Replicated(workspace) as pair, Worker(pair.primary.url) as node, ThreadPoolExecutor(1) as beside:
        ledger = Database(pair.primary.url, application_name="test-agent")
        agent = Agent(_config(table), ledger, Broker(redis_database, client_name="test-agent"), table, lambda: ledger)
        agent.lease.begin(node.id, lease_clock())
        table.enter(0, pool_process.pid)
        table.sign(0, within=-60.0)
        pair.primary.demand("*")
        pair.standbys[0].follow(None)
        written = beside.submit(databases.execute, pair.primary.url, "INSERT INTO queue (name) VALUES ('q')")
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait.until(lambda: databases.rows(pair.primary.url, waiting), what="a COMMIT that waits")
        for _ in range(10):
            agent.stuck.replace(time.monotonic())
        is_alive = pool_process.poll() is None
        pair.standbys[0].follow(pair.primary)
        written.result(30)
        assert is_alive, "its result waits in its COMMIT"
        for _ in range(5):
            agent.stuck.replace(time.monotonic())
        assert pool_process.wait(10), "now it is to blame"
        ledger.close()


def _config(table: SlotTable) -> NodeConfig:
    return NodeConfig(
        database_url="", broker_url="", name="node-1:1", host="node-1", parent_pid=os.getpid(), pool="prefork",
        slots=table.count, queues=["default"], task_types=["demo.anything"], lease=60.0, quarantine_after=3,
        table=str(table.path),
    )  # fmt: skip


def test_a_process_that_has_gone_on_to_another_task_is_not_killed_for_the_one_before(
    database: str, redis_database: str, table: _Table, pool_process: subprocess.Popen[bytes]
):
    """It exceeds its hard limit, and ends by itself right after the agent has looked."""
    ledger = Database(database, application_name="test-agent")
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks([NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(2)]))
    with Worker(database) as node:
        table.worker_id = node.id
        late, innocent = node.claim().values()
        table.enter(0, pool_process.pid)
        table.begin(0, late.claim_no, str(late.id), 1.0, 2.0)
        table.happen = lambda: table.begin(0, innocent.claim_no, str(innocent.id), 2.0, 0.0)
        table.readings_until_it_happens = 1
        agent = Agent(_config(table), ledger, Broker(redis_database, client_name="test-agent"), table, lambda: ledger)
        agent.enforcement.keep_limits(time.monotonic())
    ledger.close()
    assert pool_process.poll() is None
    assert psutil.Process(pool_process.pid).status() != psutil.STATUS_STOPPED
    assert [record.task_id for record in table.read()] == [str(innocent.id)]
    assert databases.rows(database, "SELECT count(*) FROM task WHERE worker_deaths > 0") == [(0,)]


def test_a_slot_is_not_used_before_its_dead_process_was_cleared_away(table: _Table, monkeypatch: pytest.MonkeyPatch):
    """The agent goes by slots: it would take back what the new process has claimed."""
    monkeypatch.setattr("ledgerq_worker.drain.process._CLEARED_WITHIN", 60.0)
    table.enter(0, 1)  # somebody else's number
    newcomer = PoolProcess(None, None, None, table, None)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as beside:
        is_cleared = beside.submit(newcomer._is_cleared, 0)
        with pytest.raises(TimeoutError):
            is_cleared.result(0.2)
        table.enter(0, 0)
        assert is_cleared.result(30)
        table.enter(0, os.getpid())
        assert beside.submit(newcomer._is_cleared, 0).result(30), "one's own slot is"


def test_a_stranger_with_the_number_of_a_dead_process_keeps_nothing(database: str, redis_database: str, table: _Table):
    """The system has given the process number to another living process, which is no child of the worker."""
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()']).pid, flush=True); input()"
    ledger = Database(database, application_name="test-agent")
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks([NewTask(new_task_id(), "demo.anything", "default", "{}")]))
    with (
        Worker(database) as node,
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as parent,
    ):
        assert parent.stdout
        stranger = int(parent.stdout.readline())
        table.worker_id = node.id
        [task] = node.claim().values()
        table.enter(0, stranger)
        table.begin(0, task.claim_no, str(task.id), 1.0, 0.0)
        config = dataclasses.replace(_config(table), kills_programs=False)
        agent = Agent(config, ledger, Broker(redis_database, client_name="test-agent"), table, lambda: ledger)
        agent.returning.return_dead()
        assert psutil.pid_exists(stranger)
        parent.communicate(b"\n\n")
    ledger.close()
    assert table.occupant(0) == 0
    assert databases.rows(database, "SELECT state, worker_deaths FROM task") == [("PENDING", 1)]


def test_when_the_parent_is_gone_its_pool_processes_end_and_no_stranger_with_such_a_number(
    database: str, redis_database: str, pool_process: subprocess.Popen[bytes]
):
    """Their parent no longer shows to which node they belong. A process that has the node's slot table in its memory
    belongs to the node.
    """
    table = SlotTable.create(2)
    code = f"""if True:
        import sys
        from pathlib import Path
        from ledgerq_worker.slot.table import SlotTable
        table = SlotTable(Path({str(table.path)!r}), 2)
        print("ready", flush=True)
        input()"""
    with (
        Worker(database) as node,
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as member,
    ):
        assert member.stdout
        assert member.stdout.readline() == b"ready\n"
        table.worker_id = node.id
        table.enter(0, pool_process.pid)
        table.enter(1, member.pid)
        ledger = Database(database, application_name="test-agent")
        agent = Agent(_config(table), ledger, Broker(redis_database, client_name="test-agent"), table, lambda: ledger)
        agent.enforcement.kill_all()
        assert member.wait(30) == -signal.SIGKILL
        assert pool_process.poll() is None
        ledger.close()
    table.remove()
