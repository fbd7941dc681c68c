"""A PostgreSQL that refuses for a while, or that an operator has set in his own way: nothing is lost, nothing runs twice."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
import pytest
import redis
from celery import Celery

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.support import databases, http, ledger_checks, refusals, wait

if TYPE_CHECKING:
    from tests.integration.worker.conftest import Work

_WAITS = """
SELECT xact_start FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@pytest.fixture
def set_by_an_operator(database: str) -> None:
    """Before any process connects."""
    databases.set_for_all(database, **databases.OPERATORS)


@pytest.mark.usefixtures("set_by_an_operator")
def test_a_success_whose_row_a_stranger_has_locked_is_a_success_and_runs_once(work: Work):
    work.start(LEDGERQ_WORKER_CONCURRENCY="1")
    task_id = work.submit("echo", NewTaskOptions(countdown=3600.0), value="kept")
    other = psycopg2.connect(work.database_url)
    with closing(other), other.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ WRITE; SELECT 1 FROM task WHERE id = %s FOR UPDATE", (task_id,))
        databases.execute(work.database_url, "UPDATE held SET until = now()")
        [first] = wait.until(lambda: databases.rows(work.database_url, _WAITS), what="the recorder waits")
        wait.until(
            lambda: any(row != first for row in databases.rows(work.database_url, _WAITS)), what="it tries again"
        )
        other.rollback()
    row = work.ended(task_id)
    assert (row.state, row.result, row.attempt) == ("SUCCESS", "kept", 1)
    ledger_checks.assert_sound(work.database_url)


@pytest.mark.usefixtures("set_by_an_operator")
def test_a_whole_stack_works_whatever_an_operator_has_set(work: Work):
    work.stack.register(LEDGERQ_TASK_MODULES="custom_tasks,contract_tasks")
    work.start()
    api = work.stack.api()
    assert work.run("echo", value="你好").result == "你好"
    assert work.run("echo", NewTaskOptions(countdown=0.3), value=[1.5]).result == [1.5]
    assert work.run("asks_again").retries == 2
    assert work.run("fails", text="läuft nicht").error["message"] == "läuft nicht"  # type: ignore[index]
    body = {"task_type": "contract_tasks.echo", "unique_key": "ü", "countdown": 3600}
    waiting = http.request("POST", f"{api.url}/tasks/submit", body)
    assert waiting.status == 202, waiting.body
    task_id = waiting.json()["task_id"]
    assert http.request("POST", f"{api.url}/tasks/{task_id}/cancel", {}).status == 202
    assert http.request("GET", f"{api.url}/tasks/{task_id}/events").status == 200
    assert http.request("GET", f"{api.url}/readyz").status == 200
    ledger_checks.assert_sound(work.database_url)


@pytest.mark.parametrize("code", ["55P03", "XX000", "42501"])
def test_a_plain_message_that_meets_a_refusal_is_adopted_later(work: Work, redis_database: str, code: str):
    refusals.refuse(work.database_url, code, on="task", verb="INSERT", times=None)
    worker = work.start()
    with Celery("producer", broker=redis_database, set_as_current=False) as producer:
        sent = producer.send_task("contract_tasks.add", (1, 2), queue="default").id
    wait.until(lambda: "worker.message.not_adopted_yet" in worker.log(), what="it was tried")
    refusals.allow(work.database_url)
    found = "SELECT id::text FROM task WHERE celery_id = %s"
    [(task_id,)] = wait.until(lambda: databases.rows(work.database_url, found, (sent,)), what="it is adopted")
    assert work.ended(str(task_id)).result == 3
    with closing(redis.Redis.from_url(redis_database)) as client:
        assert not [key for key in client.keys("*") if b"refused" in key]
