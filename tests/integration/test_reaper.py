"""Who is declared dead, and who is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from ledgerq_shared.database import Database, execute
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.statements.submit import NewTask, submit_tasks
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


def test_promise_3_who_renews_its_lease_while_the_reaper_looks_is_not_declared_dead(database, reap):
    with Worker(database) as worker, psycopg2.connect(database) as renewal, ThreadPoolExecutor(1) as beside:
        databases.execute(database, "UPDATE worker SET lease_until = now() - interval '1 second'")
        with renewal.cursor() as cursor:
            assert execute(cursor, renew_lease(worker_id=worker.id, lease=60.0, stopping=False))
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
