"""What must leave after a commit: one entry that Redis refuses holds up no other, and nobody waits for a silent Redis."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import redis
from celery import Celery

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.settings import StoreSettings
from ledgerq_shared.statements.outbox import put_in_outbox
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from ledgerq_worker.celery.app import build_app
from ledgerq_worker.celery.outbox import Outbox
from tests.support import databases, ledger_checks

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ledger(database: str) -> Iterator[Database]:
    made = Database(database, application_name="test")
    yield made
    made.close()


def outbox(database: str, ledger: Database, redis_url: str) -> Outbox:
    stores = StoreSettings(database_url=database, redis_url=redis_url)
    app: Celery = build_app(stores, celery_app=None, task_modules="", default_queue="default")
    return Outbox(app, ledger, actor="worker:test")


def put(ledger: Database, *queues: str) -> None:
    payloads = [
        json.dumps({"queue": queue, "body": [[], {}, {}], "headers": {"task": "t", "id": queue}, "properties": {}})
        for queue in queues
    ]
    with ledger.transaction() as cursor:
        execute(cursor, put_in_outbox("message", payloads))


def left(database: str) -> int:
    return int(str(databases.rows(database, "SELECT count(*) FROM outbox")[0][0]))


def test_a_message_for_a_queue_that_is_another_kind_of_key_holds_up_no_other(
    database: str, redis_database: str, ledger: Database
):
    with redis.Redis.from_url(redis_database) as client:
        client.set("somebody's", "text")
        put(ledger, "somebody's", "theirs")
        outbox(database, ledger, redis_database).empty()
        assert client.llen("theirs") == 1
        assert client.get("somebody's") == b"text"
    assert left(database) == 0


def test_an_entry_whose_task_cannot_be_read_holds_up_no_other(database: str, redis_database: str, ledger: Database):
    with ledger.transaction() as cursor:
        execute(cursor, put_in_outbox("outcome", [json.dumps({"task_id": "of no task"})]))
    put(ledger, "theirs")
    outbox(database, ledger, redis_database).empty()
    with redis.Redis.from_url(redis_database) as client:
        assert client.llen("theirs") == 1
    assert left(database) == 0


def test_a_redis_that_says_nothing_is_not_waited_for_and_what_must_leave_stays(database: str, ledger: Database):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        put(ledger, "theirs")
        emptying = threading.Thread(target=outbox(database, ledger, url).empty, daemon=True)
        emptying.start()
        emptying.join(60)  # by Celery's own figures it would be minutes, without end
        assert not emptying.is_alive()
    assert left(database) == 1


def test_what_cannot_be_delivered_is_told_in_the_history_of_its_task_once_for_each(
    database: str, redis_database: str, ledger: Database
):
    tasks = [NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(2)]
    odd = [str(tasks[0].id), str(tasks[0].id), str(tasks[1].id), str(new_task_id()), "of no task", None]
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks(tasks))
        body = {"body": [[], {}, {}], "headers": {"task": "t"}, "properties": {}, "queue": "somebody's"}
        execute(cursor, put_in_outbox("message", [json.dumps({**body, "task_id": task_id}) for task_id in odd]))
    with redis.Redis.from_url(redis_database) as client:
        client.set("somebody's", "text")
    outbox(database, ledger, redis_database).empty()
    assert left(database) == 0
    found = databases.rows(
        database,
        "SELECT task_id, seq, kind, actor, data->>'what', data->>'error' FROM task_event WHERE seq > 1 ORDER BY 1, 2",
    )
    assert [row[:2] for row in found] == [(str(tasks[0].id), 2), (str(tasks[0].id), 3), (str(tasks[1].id), 2)]
    assert {row[2:5] for row in found} == {("delivery_failed", "worker:test", "message")}
    assert all("WRONGTYPE" in str(row[5]) for row in found)
    assert ledger_checks.problems(database) == []
