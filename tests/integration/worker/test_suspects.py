"""A task that may have killed its worker runs alone, whatever happens to it before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.claim import hand_back
from ledgerq_shared.statements.recover import recover_claims
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from tests.support import databases
from tests.support.lives import Worker

ALONE = "SELECT task_id::text FROM ready WHERE alone UNION ALL SELECT task_id::text FROM held WHERE alone"


@pytest.fixture
def ledger(database: str) -> Iterator[Database]:
    pool = Database(database, application_name="test")
    with pool.transaction() as cursor:
        execute(cursor, submit_tasks([NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(2)]))
    yield pool
    pool.close()


def _recovered(worker: Worker, *, suspects: list[str] | None) -> Any:
    return recover_claims(worker_id=worker.id, suspects=suspects, quarantine_after=3, why="lost", actor="test")


@pytest.mark.parametrize("way", ["handed back", "held for want of a worker", "its process died before it began"])
def test_a_suspect_that_comes_back_before_it_begins_still_runs_alone(database: str, ledger: Database, way: str):
    with Worker(database) as lost, Worker(database, name="node-2:1") as second:
        assert len(lost.claim()) == 2
        with ledger.transaction() as cursor:
            # Nobody can tell which of the two it was.
            suspects = {row[0] for row in execute(cursor, _recovered(lost, suspects=None))}
        assert {row[0] for row in databases.rows(database, ALONE)} == suspects
        [taken] = second.claim().values()
        assert taken.is_alone
        if way == "held for want of a worker":
            databases.execute(database, "UPDATE worker SET task_types = '{}'")
        statement = {
            "handed back": hand_back({str(taken.id): taken.claim_no}),
            "held for want of a worker": hand_back({str(taken.id): taken.claim_no}, reason="no_worker"),
            "its process died before it began": _recovered(second, suspects=[]),
        }[way]
        with ledger.transaction() as cursor:
            assert execute(cursor, statement)
        assert {row[0] for row in databases.rows(database, ALONE)} == suspects
    with Worker(database, name="node-3:1"):  # what waited for a worker that knows the type is ready again
        assert {row[0] for row in databases.rows(database, ALONE)} == suspects
        assert databases.rows(database, "SELECT FROM held") == []
