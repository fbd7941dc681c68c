"""An idle system is quiet: a process that has nothing to do does not wake up, look or ask, and still notices what it
must.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from ledgerq_shared.broker import Broker
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.statements.dispatch import count_ready_by_queue, what_to_do
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_worker.maintenance import main
from ledgerq_worker.maintenance.leader import Leadership
from ledgerq_worker.maintenance.loop import Round
from ledgerq_worker.node.agent import Agent
from ledgerq_worker.node.config import NodeConfig
from ledgerq_worker.node.lease import Lease
from ledgerq_worker.slot.table import SlotRecord, SlotTable, lease_clock
from tests.support import databases
from tests.support.clocks import Clock
from tests.support.lives import Worker, registration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledgerq_shared.sql import Statement


class _WatchedTable(SlotTable):
    """Notes when it is read."""

    clock: Clock
    read_at: set[float]

    def read(self) -> list[SlotRecord]:
        self.read_at.add(self.clock.now)
        return super().read()


class _Tickets:
    """Whether tickets lie in Redis. Counts how often somebody asks."""

    def __init__(self, *, are_there: bool) -> None:
        self.are_there = are_there
        self.asked = 0

    def look(self) -> bool:
        self.asked += 1
        return self.are_there


class _CountingDatabase(Database):
    """Counts what is asked: statements by name, and transactions."""

    url: str
    asked: Counter[str | None]
    transactions = 0

    def fetch(
        self, statement: Statement[Any], timeout: float = 30.0, *, writes: bool = False, lasts: bool = True
    ) -> list[tuple[Any, ...]]:
        self.asked[statement.name] += 1
        return super().fetch(statement, timeout, writes=writes, lasts=lasts)

    def transaction(
        self, timeout: float = 30.0, *, writes: bool = True, lasts: bool = True
    ) -> contextlib.AbstractContextManager[Cursor]:
        self.transactions += 1
        return super().transaction(timeout, writes=writes, lasts=lasts)


@pytest.fixture
def ledger(database: str) -> Iterator[_CountingDatabase]:
    made = _CountingDatabase(database, application_name="test-idle")
    made.url, made.asked = database, Counter()
    yield made
    made.close()


@pytest.fixture
def watched() -> Iterator[_WatchedTable]:
    made = _WatchedTable.create(2)
    made.clock, made.read_at = Clock(), set()
    yield made
    made.remove()


def let_the_agent_run(
    ledger: _CountingDatabase,
    redis_url: str,
    table: SlotTable,
    *,
    clock: Clock,
    seconds: float,
    tickets: _Tickets | None = None,
) -> None:
    """An agent whose parent says nothing for ``seconds`` by the agent's clock, which pass at once."""
    end = clock.now + seconds

    def next_lines(timeout: float) -> list[str]:
        assert timeout == 0.2  # however little there is to do: a task's hard limit may be as short as that
        clock.now += 0.25  # a number whose sums are exact
        return ["stopped"] if clock.now > end else []

    config = NodeConfig(
        database_url="", broker_url="", name="node-1:1", host="node-1", parent_pid=os.getpid(), pool="prefork",
        slots=table.count, queues=["default"], task_types=["demo.anything"], lease=10.0, quarantine_after=3,
        table=str(table.path),
    )  # fmt: skip
    Agent(
        config,
        ledger,
        Broker(redis_url, client_name="test-idle"),
        table,
        lambda: Database(ledger.url, application_name="test-lease"),
        tickets=tickets or _Tickets(are_there=False),  # type: ignore[arg-type]
        clock=clock,
    ).run(next_lines)


@pytest.mark.parametrize(
    ("is_busy", "asked"),
    [(False, {"renew_lease": 5}), (True, {"renew_lease": 10, "find_cancel_requests": 10})],
    ids=["idle", "busy"],
)
def test_an_idle_nodes_lease_is_renewed_half_as_often_and_it_does_not_ask_what_is_to_end(
    database: str,
    ledger: _CountingDatabase,
    table: SlotTable,
    is_busy: bool,
    asked: dict[str, int],
):
    clock = Clock()
    table.enter(0, 4711)
    if not is_busy:
        table.rest(0)
    with Worker(database) as worker:
        made = Lease(lambda: ledger, "node-1:1", table, 10.0, lambda: True, clock=clock)
        made.begin(worker.id, lease_clock())
        for _ in range(41):
            made.renew_if_due(ledger)
            clock.now += 0.25
    assert ledger.asked == asked


@pytest.mark.parametrize(
    ("is_busy", "is_deaf", "looks"),
    [(False, False, 5), (True, False, 10), (False, True, 9)],
    ids=["idle", "busy", "idle beside a ticket"],
)
def test_an_agent_asks_the_ledger_nothing_else_and_looks_half_as_often_when_its_node_is_idle(
    ledger: _CountingDatabase,
    redis_database: str,
    watched: _WatchedTable,
    pool_process: subprocess.Popen[bytes],
    is_busy: bool,
    is_deaf: bool,
    looks: int,
):
    """``is_deaf``: tickets lie in Redis, and none is taken. One slot at least is idle."""
    tickets = _Tickets(are_there=is_deaf)
    watched.enter(0, pool_process.pid)
    if not is_busy:
        watched.rest(0)
    let_the_agent_run(ledger, redis_database, watched, clock=watched.clock, seconds=10.25, tickets=tickets)
    assert tickets.asked == looks
    assert ledger.transactions == 2, "it registers and ends"
    assert ledger.asked == {"find_claims": 2}, "once in a lease of ten seconds: the first and the last of them"


def test_an_idle_nodes_agent_looks_at_its_processes_once_a_second_and_finds_the_dead_one(
    ledger: _CountingDatabase,
    redis_database: str,
    watched: _WatchedTable,
    pool_process: subprocess.Popen[bytes],
):
    clock = watched.clock
    watched.enter(0, pool_process.pid)
    watched.rest(0)
    let_the_agent_run(ledger, redis_database, watched, clock=clock, seconds=10.25)
    began, *looks, ended = sorted(watched.read_at)
    assert (began, ended) == (1000.0, 1010.5)
    assert looks == [1000.25 + second for second in range(11)]
    pool_process.kill()
    pool_process.wait(10)
    let_the_agent_run(ledger, redis_database, watched, clock=clock, seconds=1.25)
    assert watched.occupant(0) == 0


def test_who_leads_asks_less_often_than_who_stands_by(ledger: _CountingDatabase):
    clock = Clock()
    leading, standing_by = (Leadership(ledger, lease=6.0, clock=clock) for _ in range(2))
    assert leading.asks_at == standing_by.asks_at == 0.0
    assert leading.leads()
    assert not standing_by.leads()
    assert (leading.asks_at, standing_by.asks_at) == (clock.now + 2.0, clock.now + 1.5)
    assert leading.leads()
    assert ledger.asked == {"take_leadership": 2}
    leading.lost_touch()
    assert leading.asks_at == 0.0


class _Ended(threading.Event):
    """Ends the loop at its first pause, and notes how long that would have been."""

    pause: float | None = None

    def wait(self, timeout: float | None = None) -> bool:
        self.pause = timeout
        self.set()
        return True


class _Rare:
    name = "rare"
    every = 60.0

    def run_once(self) -> int:
        return 0


@pytest.mark.parametrize("is_leader", [True, False])
def test_maintenance_sleeps_until_something_is_due(ledger: _CountingDatabase, is_leader: bool):
    leadership = Leadership(ledger, lease=400.0)
    if not is_leader:
        assert Leadership(ledger, lease=400.0).leads()
    ended = _Ended()
    main._run(leadership, [Round(_Rare())], ended, main._Progress())
    assert ended.pause is not None
    # The duty's next time. A process that stands by has none, and asks after a quarter of the lease.
    assert 30 < ended.pause <= 60 if is_leader else 60 < ended.pause <= 100


def test_what_maintenance_looks_for_is_one_row_and_each_queues_tasks_are_counted_when_there_are_some(
    ledger: _CountingDatabase, database: str
):
    def found() -> set[str]:
        [row] = ledger.fetch(what_to_do(ahead=0.0))
        return {duty for duty, is_due in row._asdict().items() if is_due}

    def submit(**options: Any) -> None:
        with ledger.transaction() as cursor:
            execute(
                cursor,
                submit_tasks(
                    [NewTask(new_task_id(), "demo.anything", "default", "{}", options=NewTaskOptions(**options))]
                ),
            )

    assert found() == set()
    submit(countdown=0.01)
    databases.rows(database, "SELECT pg_sleep(0.02)")
    assert found() == {"promote"}
    submit()
    submit()
    assert found() == {"wake", "promote"}
    assert ledger.fetch(count_ready_by_queue(up_to=1000)) == [], (
        "nobody serves the queue, and who comes to serve it wakes itself"
    )
    with ledger.transaction() as cursor:
        execute(cursor, registration(uuid4(), "node"))
    assert ledger.fetch(count_ready_by_queue(up_to=1000)) == [("default", 2)]
    assert ledger.fetch(count_ready_by_queue(up_to=1)) == [("default", 1)]
