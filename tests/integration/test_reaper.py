"""Who is declared dead, and who is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.recover import read_suspicion
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.statements.workers import renew_lease
from tests.support import databases, wait
from tests.support.lives import Worker
from tests.support.reaping import reaper

REAPER = "reaper"


@pytest.fixture
def reap(database):
    connections = Database(database, application_name=REAPER)
    yield reaper(connections)
    connections.close()


def _ended(database):
    return databases.rows(database, "SELECT ended_why FROM worker")


@pytest.mark.parametrize("lease", [60.0, 0.0], ids=["and it holds", "and could not once more"])
def test_promise_3_who_renews_its_lease_while_the_reaper_looks_is_not_declared_dead(database, reap, lease):
    with Worker(database) as worker, psycopg2.connect(database) as renewal, ThreadPoolExecutor(1) as beside:
        databases.execute(database, "UPDATE worker SET lease_until = now() - interval '1 second'")
        with renewal.cursor() as cursor:
            assert execute(cursor, renew_lease(worker_id=worker.id, lease=lease, stopping=False)) == [(True, True)]
        reaped = beside.submit(reap.run_once)
        waiting = "SELECT FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
        wait.until(lambda: databases.rows(database, waiting, (REAPER,)), what="the reaper waits for the renewal")
        renewal.commit()
        reaped.result(30)
        assert _ended(database) == [(None,)]
    renewal.close()


def test_promise_3_whose_lease_is_over_is_declared_dead_and_what_it_held_waits_again(database, reap):
    task = NewTask(new_task_id(), "demo.anything", "default", "{}")
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        execute(cursor, submit_tasks([task]))
    connection.close()
    with Worker(database) as worker:
        assert str(task.id) in worker.claim()
        databases.execute(database, "UPDATE worker SET lease_until = now() - interval '1 second'")
        reap.run_once()
    assert _ended(database) == [("lost",)]
    assert databases.rows(database, "SELECT task_id::text FROM ready") == [(str(task.id),)]


def test_of_a_lost_node_only_what_had_begun_is_charged_or_ended(database, reap):
    """Each task is in a claim of its own, as long tasks are."""
    options = [None, NewTaskOptions(on_worker_lost="fail")]
    tasks = {
        f"{'begun' if has_begun else 'waiting'} {'once' if option else 'again'}": NewTask(
            new_task_id(), "demo.anything", "default", "{}", options=option
        )
        for has_begun in (True, False)
        for option in options
    }
    connections = Database(database, application_name="test")
    with connections.transaction() as cursor:
        execute(cursor, submit_tasks(list(tasks.values())))
    with Worker(database) as worker:
        for name, task in tasks.items():
            claimed = worker.claim(limit=1)
            assert list(claimed) == [str(task.id)]
            if name.startswith("begun"):
                worker.begin(claimed[str(task.id)])
        databases.execute(database, "UPDATE worker SET lease_until = now() - interval '1 second'")
        reap.run_once()
    rows = databases.rows(database, "SELECT id::text, state, attempt, worker_deaths, error->>'type' FROM task")
    found = {task_id: tuple(rest) for task_id, *rest in rows}
    assert {name: found[str(task.id)] for name, task in tasks.items()} == {
        "begun again": ("PENDING", 1, 1, None),
        "begun once": ("FAILURE", 1, 1, "WorkerLost"),
        "waiting again": ("PENDING", 0, 0, None),
        "waiting once": ("PENDING", 0, 0, None),
    }
    assert databases.rows(database, "SELECT DISTINCT alone FROM ready") == [(True,)]
    with connections.transaction() as cursor:
        suspicion = {name: execute(cursor, read_suspicion(str(task.id)))[0] for name, task in tasks.items()}
    assert suspicion["begun again"] == (1, True)
    assert suspicion["waiting again"] == (0, False)
    connections.close()


def test_promise_3_a_node_whose_row_somebody_has_locked_holds_up_no_other(database, reap):
    with Worker(database) as first, Worker(database, name="node-2:1") as second:
        databases.execute(database, "UPDATE worker SET lease_until = now() - interval '1 second'")
        for locked, free in ((first, second), (second, first)):
            with psycopg2.connect(database) as stranger, stranger.cursor() as cursor:
                cursor.execute("SELECT FROM worker WHERE id = %s FOR UPDATE", (str(locked.id),))
                reap.run_once()
                ended = dict(databases.rows(database, "SELECT id::text, ended_why FROM worker"))
                assert ended[str(free.id)] == "lost"
            stranger.close()
            databases.execute(database, "UPDATE worker SET ended_at = NULL, ended_why = NULL")
