"""What waits for a time becomes ready at that time, not with the next sweep, and wakes as many slots as there are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg2
import pytest
import redis

from ledgerq_shared.broker import Broker, ticket_list
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.claim import hand_back
from ledgerq_shared.statements.dispatch import promote_due, slots_by_queue, what_to_do
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.statements.workers import register_worker
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.maintenance.dispatcher import Promote, Sweep
from ledgerq_worker.maintenance.loop import Round
from tests.support import databases, wait
from tests.support.lives import Worker, registration

if TYPE_CHECKING:
    from tests.support.stack import Stack

Submit = Callable[[float], str]

_READY = "SELECT task_id::text FROM ready ORDER BY run_at"


@pytest.fixture
def ledger(database: str) -> Iterator[Database]:
    pool = Database(database, application_name="test")
    yield pool
    pool.close()


@pytest.fixture
def submit(ledger: Database) -> Submit:
    """Accept a task that is due in so many seconds; its id."""

    def one(countdown: float) -> str:
        task = NewTask(new_task_id(), "demo.anything", "default", "{}", options=NewTaskOptions(countdown=countdown))
        with ledger.transaction() as cursor:
            execute(cursor, submit_tasks([task]))
        return str(task.id)

    return one


@pytest.fixture
def waker(ledger: Database, redis_database: str) -> Iterator[Waker]:
    made = Waker(lambda: ledger.fetch(slots_by_queue()), Broker(redis_database, client_name="test"))
    yield made
    made.close()


@pytest.fixture
def promote(ledger: Database, waker: Waker) -> Round:
    return Round(Promote(ledger, waker))


def test_each_task_is_promoted_when_it_is_due_however_far_the_next_sweep_is(
    stack: Stack, database: str, submit: Submit
):
    due = [submit(countdown) for countdown in (8, 10)]
    submit(3600)
    maintenance = stack.maintenance(LEDGERQ_SWEEP_SECONDS="3600")
    maintenance.says("maintenance.leads")
    wait.until(lambda: [row[0] for row in databases.rows(database, _READY)] == due, 30, what=maintenance.log)


def test_a_sweep_sends_the_tickets_that_are_missing(
    ledger: Database, redis_database: str, waker: Waker, submit: Submit, promote: Round
):
    broker = Broker(redis_database, client_name="test")
    sweep = Sweep(ledger, waker, {}, promote, every=60)
    ledger.fetch(registration(uuid4(), "node-1:1"))
    submit(0)
    submit(3600)
    assert not broker.has_tickets(["default"])
    sweep.run_once()
    wait.until(lambda: broker.has_tickets(["default"]), 30, what="a ticket")
    broker.close()


def test_a_sweep_brings_promoting_forward_for_what_is_due_before_the_next_one(
    ledger: Database, waker: Waker, submit: Submit, promote: Round
):
    sweep = Sweep(ledger, waker, {}, promote, every=60)
    promote.run_if_due(time.monotonic())
    assert promote.due_at == math.inf  # nothing is held
    submit(3600)
    sweep.run_once()
    assert promote.due_at == math.inf
    submit(30)
    sweep.run_once()
    now = time.monotonic()
    promote.run_if_due(now)
    assert now < promote.due_at <= time.monotonic() + 30


def test_what_is_due_together_gets_a_ticket_for_each_slot_and_not_more(
    ledger: Database, redis_database: str, waker: Waker, submit: Submit, promote: Round
):
    for _ in range(5):
        submit(3600)
    with ledger.transaction() as cursor:
        for name in ("one", "other"):  # nodes of two slots
            execute(cursor, registration(uuid4(), name))
        cursor.execute("UPDATE held SET until = now()")
    promote.run_if_due(time.monotonic())
    waker.close()
    with redis.Redis.from_url(redis_database) as client:
        assert client.llen(ticket_list("default")) == 4


def test_a_look_at_what_to_do_reads_no_table_of_waiting_tasks_whole_even_without_statistics(ledger: Database):
    look = what_to_do(ahead=0.5)
    with ledger.transaction() as cursor:
        cursor.execute(
            "INSERT INTO held (task_id, queue, priority, task_type, reason, until)"
            " SELECT md5(n::text)::uuid, 'default', 5, 'demo.anything', 'eta', now() + interval '1 hour'"
            " FROM generate_series(1, 5000) AS n"
        )
        plan = execute(cursor, Statement(f"EXPLAIN {look.sql}", look.params))
    assert not [line for (line,) in plan if "Seq Scan on held" in line]


def test_what_is_held_for_want_of_a_worker_that_registers_meanwhile_becomes_ready(ledger: Database, database: str):
    """A worker hands a strange task back, and before its commit another one registers that knows it."""
    task = NewTask(new_task_id(), "new.type", "default", "{}")
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks([task]))
    with Worker(database) as old, psycopg2.connect(database) as handing_back, handing_back.cursor() as cursor:
        [claimed] = old.claim().values()
        assert execute(cursor, hand_back({str(task.id): claimed.claim_no}, reason="no_worker"))
        with ledger.transaction() as other:
            execute(
                other,
                register_worker(worker_id=uuid4(), name="new", host="h", pid=1, pool="prefork", slots=1, queues=["default"],
                                task_types=["new.type"], lease=60.0),
            )  # fmt: skip
        handing_back.commit()
        assert databases.rows(database, "SELECT reason FROM held") == [("no_worker",)]
        [seen] = ledger.fetch(what_to_do(ahead=0.0))
        assert seen.promote
        with ledger.transaction() as other:
            assert execute(other, promote_due(limit=10)) == [("default",)]
    handing_back.close()
    assert databases.rows(database, _READY) == [(str(task.id),)]
    [seen] = ledger.fetch(what_to_do(ahead=0.0))
    assert not seen.promote
