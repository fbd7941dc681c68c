"""Who gets tasks, and who does not."""

from __future__ import annotations

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.queues import set_paused
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from ledgerq_shared.statements.workers import end_worker, renew_lease
from tests.support.lives import Worker


@pytest.fixture
def pool(database):
    made = Database(database, application_name="test")
    yield made
    made.close()


def _declare_dead(pool, worker):
    with pool.transaction() as cursor:
        assert execute(cursor, end_worker(worker_id=worker.id, why="lost"))


def test_a_node_that_was_declared_dead_claims_nothing(database, pool):
    """Nobody would ever take it back: its claims were taken when it was declared dead."""
    task = NewTask(new_task_id(), "demo.anything", "default", "{}")
    with pool.transaction() as cursor:
        execute(cursor, submit_tasks([task]))
    with Worker(database) as dead, Worker(database, name="node-2:1") as alive:
        _declare_dead(pool, dead)
        assert dead.claim() == {}
        assert list(alive.claim()) == [str(task.id)]


def test_a_paused_queue_gives_nothing_although_tasks_are_ready(database, pool):
    task = NewTask(new_task_id(), "demo.anything", "default", "{}")
    with pool.transaction() as cursor:
        execute(cursor, submit_tasks([task]))
    with Worker(database) as worker:
        for is_paused, claimed in ((True, []), (False, [str(task.id)])):
            with pool.transaction() as cursor:
                execute(cursor, set_paused("default", paused=is_paused, make=True))
            assert list(worker.claim()) == claimed


def test_a_node_that_was_declared_dead_renews_no_lease(database, pool):
    """It is told so, and registers anew."""
    with Worker(database) as worker:
        renewal = renew_lease(worker_id=worker.id, lease=60.0, stopping=False)
        assert pool.fetch(renewal, writes=True) == [(True, True)]
        _declare_dead(pool, worker)
        assert pool.fetch(renewal, writes=True) == [(False, False)]
