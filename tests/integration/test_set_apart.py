"""One task with which maintenance fails by itself holds up no other, is named, and is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from ledgerq_shared.broker import Broker
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.dispatch import slots_by_queue
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker import apart
from ledgerq_worker.maintenance import metrics
from ledgerq_worker.maintenance.dispatcher import Expire, Promote
from tests.support import databases, ledger_checks, refusals, wait
from tests.support.lives import Worker
from tests.support.reaping import reaper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Stack

TASKS = 20
#: SQLSTATEs: a mistake of ours, a trigger's word, a CHECK.
CODES = ["42804", "P0001", "23514"]


@pytest.fixture
def ledger(database: str) -> Iterator[Database]:
    pool = Database(database, application_name="test")
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_AGAIN_AFTER", 0.1)


def submit(ledger: Database, **options: Any) -> list[str]:
    tasks = [
        NewTask(new_task_id(), "demo.anything", "default", "{}", options=NewTaskOptions(**options))
        for _ in range(TASKS)
    ]
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks(tasks))
    return [str(task.id) for task in tasks]


def where(database: str, state: str) -> set[str]:
    """Which tasks are in a table, or in a state."""
    sql = (
        f"SELECT task_id::text FROM {state}"
        if state.islower()
        else f"SELECT id::text FROM task WHERE state = '{state}'"
    )
    return {str(row[0]) for row in databases.rows(database, sql)}


def set_apart(duty: str) -> float | None:
    return metrics.registry.get_sample_value("ledgerq_maintenance_set_apart", {"duty": duty})


def named(lines: Any) -> set[str]:
    return {line["task_id"] for line in lines if line["event"] == "apart.set_apart"}


@pytest.fixture
def promote(ledger: Database, redis_database: str) -> Iterator[Promote]:
    waker = Waker(lambda: ledger.fetch(slots_by_queue()), Broker(redis_database, client_name="test"))
    yield Promote(ledger, waker)
    waker.close()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("bad", [[0], [3, 4, TASKS - 1], range(TASKS)], ids=["one", "three", "all"])
def test_a_task_that_cannot_be_promoted_holds_up_no_other_and_is_promoted_when_it_can_be(
    database: str, ledger: Database, promote: Promote, code: str, bad: Any
):
    ids = submit(ledger, countdown=3600)
    databases.execute(database, "UPDATE held SET until = now() - interval '1 minute'")
    refused = {ids[number] for number in bad}
    condition = f"NEW.task_id IN ({', '.join(repr(one) for one in refused)})"
    refusals.refuse_rows(database, code, on="ready", verb="INSERT", when=condition)
    with capture_logs() as lines:
        assert promote.run_once() == TASKS - len(refused)
    assert where(database, "ready") == set(ids) - refused
    assert where(database, "held") == named(lines) == refused
    assert set_apart("promote") == len(refused)
    assert promote.run_once() == 0
    assert promote.every >= 1, "nothing else is due: no round after the other"
    more = submit(ledger, countdown=3600)
    databases.execute(database, f"UPDATE held SET until = now() WHERE task_id = ANY ('{{{','.join(more)}}}')")
    assert promote.run_once() == TASKS
    refusals.allow(database)
    wait.until(lambda: not (promote.run_once() or where(database, "held")), 30)
    assert where(database, "ready") == {*ids, *more}
    assert set_apart("promote") == 0
    assert ledger_checks.problems(database) == []


@pytest.mark.parametrize("code", CODES)
def test_a_task_that_cannot_be_expired_holds_up_no_other_and_is_expired_when_it_can_be(
    database: str, ledger: Database, code: str
):
    ids = submit(ledger, expires_in=3600)
    databases.execute(database, "UPDATE ready SET expires_at = now() - interval '1 minute'")
    expire = Expire(ledger, every=1.0)
    refusals.refuse_rows(database, code, on="task", verb="UPDATE", when=f"NEW.id = '{ids[7]}'")
    with capture_logs() as lines:
        assert expire.run_once() == TASKS - 1
    assert where(database, "ready") == named(lines) == {ids[7]}
    assert where(database, "REVOKED") == set(ids) - {ids[7]}
    assert set_apart("expire") == 1
    refusals.allow(database)
    wait.until(expire.run_once, 30)
    assert where(database, "REVOKED") == set(ids)
    assert set_apart("expire") == 0
    assert ledger_checks.problems(database) == []


@pytest.mark.parametrize("code", CODES)
def test_a_task_that_cannot_be_taken_back_from_a_lost_node_holds_up_no_other(
    database: str, ledger: Database, code: str
):
    ids = submit(ledger)
    reap = reaper(ledger)
    with Worker(database) as worker:
        some = list(worker.claim(limit=5).values())
        assert len(worker.claim()) == TASKS - 5
        worker.begin(some[1])
        bad, begun = str(some[2].id), str(some[1].id)
        refusals.refuse_rows(database, code, on="ready", verb="INSERT", when=f"NEW.task_id = '{bad}'")
        databases.execute(database, "UPDATE worker SET lease_until = now() - interval '1 second'")
        with capture_logs() as lines:
            assert reap.run_once() == TASKS - 1
        assert named(lines) == {bad}
        assert where(database, "ready") == set(ids) - {bad}
        assert databases.rows(database, "SELECT task_ids::text[] FROM claim") == [([bad],)]
        assert set_apart("reap") == 1
        refusals.allow(database)
        wait.until(reap.run_once, 30)
    assert where(database, "ready") == set(ids)
    assert databases.rows(database, "SELECT 1 FROM claim") == []
    assert databases.rows(database, "SELECT id::text FROM task WHERE worker_deaths > 0") == [(begun,)]
    assert ledger_checks.problems(database) == []


def test_while_one_task_cannot_be_promoted_a_running_maintenance_process_does_everything_else(
    stack: Stack, database: str, ledger: Database
):
    bad, *others = submit(ledger, countdown=0.2)
    refusals.refuse_rows(database, "P0001", on="ready", verb="INSERT", when=f"NEW.task_id = '{bad}'")
    maintenance = stack.maintenance()
    wait.until(lambda: where(database, "ready") == set(others), 30, what=maintenance.log)
    maintenance.says("apart.set_apart")
    refusals.allow(database)
    wait.until(lambda: where(database, "ready") == {bad, *others}, 30, what=maintenance.log)
