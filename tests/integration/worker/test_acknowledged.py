"""Who takes tasks back ends those that had begun, or may have, if their message was acknowledged; others go back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.claim import claim_tasks
from ledgerq_shared.statements.recover import TakenBack, recover_claims
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.statements.workers import register_worker
from ledgerq_worker.slot.table import SlotTable
from tests.support import databases, ledger_checks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

_MESSAGE = NewTaskOptions(celery="{}")


@pytest.fixture
def ledger(database: str) -> Iterator[Database]:
    made = Database(database, application_name="test")
    yield made
    made.close()


def held(ledger: Database, **options: NewTaskOptions | None) -> tuple[UUID, int, dict[str, str]]:
    """A node that holds a task of each name in one claim: its id, the claim's number, the tasks' ids by name."""
    worker = uuid4()
    tasks = {name: NewTask(new_task_id(), f"t.{name}", "q", "{}", options=given) for name, given in options.items()}
    with ledger.transaction() as cursor:
        execute(
            cursor,
            register_worker(
                worker_id=worker, name=str(worker), host="h", pid=1, pool="prefork", slots=1, queues=["q"],
                task_types=[], lease=60, acknowledged=[f"t.{name}" for name in options if name != "late"],
            ),
        )  # fmt: skip
        execute(cursor, submit_tasks(list(tasks.values())))
    with ledger.transaction() as cursor:
        rows = execute(
            cursor,
            claim_tasks(
                worker_id=worker, slot=0, queue="q", limit=99, budget=99, cost_of_type={}, unknown_cost=0, low_water={}
            ),
        )
    assert len(rows) == len(tasks)
    return worker, rows[0].claim_no, {name: str(task.id) for name, task in tasks.items()}


def taken(ledger: Database, worker: UUID, **known: Any) -> dict[str, TakenBack]:
    with ledger.transaction() as cursor:
        rows = execute(
            cursor, recover_claims(worker_id=worker, quarantine_after=3, why="SIGKILL", actor="maintenance", **known)
        )
    return {row.task_type.removeprefix("t."): row for row in rows}


def test_of_a_lost_machine_fails_whatever_may_have_begun_and_must_not_run_twice(database: str, ledger: Database):
    own = NewTaskOptions(celery="{}", on_worker_lost="fail")  # its start would be in the ledger
    worker, _, ids = held(ledger, early=_MESSAGE, late=_MESSAGE, http=None, own=own)
    rows = taken(ledger, worker, suspects=None, is_whole_node=True)
    assert {name: row.state for name, row in rows.items()} == {
        "early": "FAILURE", "late": "PENDING", "http": "PENDING", "own": "PENDING",
    }  # fmt: skip
    [(error, attempt)] = databases.rows(
        database, "SELECT error->>'type', attempt FROM task WHERE id = %s", (ids["early"],)
    )
    assert (error, attempt) == ("WorkerLost", 1)
    assert databases.rows(database, "SELECT payload->>'task_id' FROM outbox") == [(ids["early"],)]
    assert ledger_checks.problems(database) == []


def test_of_a_dead_process_fails_what_its_list_has_of_that_claim(database: str, ledger: Database):
    worker, no, ids = held(ledger, ran=_MESSAGE, waited=_MESSAGE, formerly=_MESSAGE)
    rows = taken(ledger, worker, suspects=(), begun=[(no, ids["ran"]), (no - 1, ids["formerly"])])
    assert {name: row.state for name, row in rows.items()} == {
        "ran": "FAILURE", "waited": "PENDING", "formerly": "PENDING",
    }  # fmt: skip
    assert {name: row.worker_deaths for name, row in rows.items()} == {"ran": 1, "waited": 0, "formerly": 0}
    assert ledger_checks.problems(database) == []


def test_a_suspect_whose_start_is_not_written_had_not_begun(database: str, ledger: Database):
    worker, *_ = held(ledger, early=_MESSAGE)
    databases.execute(database, "UPDATE claim SET alone = true")
    assert taken(ledger, worker, suspects=None)["early"].state == "PENDING"
    assert ledger_checks.problems(database) == []


def test_a_slot_lists_what_has_begun_of_one_claim_until_the_slot_is_cleared(table: SlotTable):
    ids = [str(uuid4()) for _ in range(600)]
    assert table.begun() == []
    assert [table.list_begun(0, 7, one) for one in ids].count(True) == 512
    assert table.begun(0) == [(7, one) for one in ids[:512]]
    assert table.list_begun(0, 8, ids[0])
    table.begin(0, 8, ids[0], 1.0, 0.0)
    table.end(0)
    assert table.begun() == [(8, ids[0])]
    table.enter(0, 0)
    assert table.begun() == []
