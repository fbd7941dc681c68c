"""Whoever takes tasks back wakes slots for what is ready again, and only when everybody can see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from ledgerq_shared.tasks.cancelling import cancel
from ledgerq_worker.recovering import Loss, Recovering
from tests.support import databases, ledger_checks
from tests.support.lives import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_slots_are_woken_after_the_commit_for_what_is_ready_again_and_for_nothing_else(database: str):
    ledger = Database(database, application_name="test")
    tasks = [NewTask(new_task_id(), "demo.anything", queue, "{}") for queue in ("default", "default", "documents")]
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks(tasks))
    told: list[tuple[dict[str, int], set[object]]] = []

    def wake(ready: Mapping[str, int]) -> None:
        seen = {row[0] for row in databases.rows(database, "SELECT queue FROM ready")}
        told.append((dict(ready), seen))

    with Worker(database) as node:
        assert len(node.claim() | node.claim("documents")) == 3
        with ledger.transaction() as cursor:
            cancel(cursor, str(tasks[0].id), actor="test", message=None, terminate=False)
        recovering = Recovering(ledger, wake, quarantine_after=3, actor="test")
        rows = recovering.take_back(Loss(node.id, "it is a test"))
        assert sorted(row.state for row in rows) == ["PENDING", "PENDING", "REVOKED"]
        assert told == [({"default": 1, "documents": 1}, {"default", "documents"})]
    ledger.close()
    ledger_checks.assert_sound(database)
