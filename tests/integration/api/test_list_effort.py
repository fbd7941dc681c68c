"""What lists cost: how many pages of the database they touch, which no busy machine changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import psycopg2
import pytest

from ledgerq_shared.statements.read_list import count_tasks, list_tasks
from ledgerq_shared.statements.walks import TaskFilter
from ledgerq_shared.states import State
from tests.support import databases
from tests.support.api import ANYTHING
from tests.support.lives import Worker

WAITING = 20_000


@pytest.fixture
def behind_many(api):
    """Thirty tasks that succeeded, ten of them with a tag; then as many waiting ones as a busy evening leaves."""
    for number in range(30):
        api.submit(tags=["wanted"] if number % 3 == 0 else None)
    with Worker(api.database_url) as worker:
        for task in worker.claim().values():
            worker.end(task, State.SUCCESS)
    databases.execute(
        api.database_url,
        "WITH made AS (INSERT INTO task (id, task_type, queue, submitted_at, parameters) "
        f"SELECT ('fffffff0-7a52-7d31-9b64-' || lpad(n::text, 12, '0'))::uuid, '{ANYTHING}', 'default', now(), '{{}}' "
        f"FROM generate_series(1, {WAITING}) n RETURNING *), "
        f"counted AS (INSERT INTO task_count VALUES ('{ANYTHING}', 'default', 'PENDING', {WAITING})) "
        "INSERT INTO ready (task_id, queue, priority, run_at, task_type) "
        "SELECT id, queue, priority, submitted_at, task_type FROM made",
    )
    databases.execute(api.database_url, "ANALYZE task, ready, task_success, task_tag")
    return api


def pages_touched(url, statement):
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.sql, statement.params)
            [(found,)] = cursor.fetchall()
    finally:
        connection.close()
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.mark.parametrize(
    "filter_",
    [
        TaskFilter(state=State.SUCCESS),
        TaskFilter(tag="wanted"),
        TaskFilter(),
        TaskFilter(state=State.PENDING),
        TaskFilter(state=State.PENDING, submitted_after=datetime(2020, 1, 1, tzinfo=UTC)),
        TaskFilter(state=State.PENDING, queue="default", submitted_after=datetime(2020, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_page_touches_no_more_of_the_ledger_than_it_shows(behind_many, filter_):
    statement = list_tasks(filter_, limit=11, offset=0, retrying=0)
    assert pages_touched(behind_many.database_url, statement) < 150


def test_successes_of_a_queue_are_found_without_walking_what_waits_there(behind_many):
    page = behind_many.get("/tasks/", status="SUCCESS", queue="default", page_size=5).json()
    assert (len(page["tasks"]), page["total_count"]) == (5, 30)
    statement = list_tasks(TaskFilter(state=State.SUCCESS, queue="default"), limit=6, offset=0, retrying=0)
    walking = list_tasks(
        TaskFilter(state=State.SUCCESS, queue="default"), limit=6, offset=0, retrying=0, along_successes=False
    )
    touched = pages_touched(behind_many.database_url, statement)
    assert touched < 150 < pages_touched(behind_many.database_url, walking)


def test_a_tag_is_counted_without_its_tasks(behind_many):
    statement = count_tasks(TaskFilter(tag="wanted"), limit=10_001, retrying=0)
    assert pages_touched(behind_many.database_url, statement) < 20


@pytest.fixture
def resting(api):
    """A type and a queue that one task in ten had while statistics were taken, and none of those that came since."""

    def make(series: int, number: int, *, one_in: int) -> None:
        databases.execute(
            api.database_url,
            "INSERT INTO task (id, task_type, queue, submitted_at, parameters) "
            f"SELECT ('fffffff{series}-7a52-7d31-9b64-' || lpad(n::text, 12, '0'))::uuid, "
            f"CASE WHEN n % {one_in} = 0 THEN 'demo.rare' ELSE '{ANYTHING}' END, "
            f"CASE WHEN n % {one_in} = 0 THEN 'rare' ELSE 'default' END, now(), '{{}}' "
            f"FROM generate_series(1, {number}) n",
        )

    databases.execute(api.database_url, "ALTER TABLE task SET (autovacuum_enabled = off)")
    make(0, 10_000, one_in=10)
    databases.execute(api.database_url, "ANALYZE task")
    make(1, WAITING, one_in=WAITING + 1)
    return api


@pytest.mark.parametrize(
    "filter_",
    [
        TaskFilter(task_types=["demo.rare"]),
        TaskFilter(task_types=["demo.rare", "other.rare"]),
        TaskFilter(queue="rare"),
    ],
    ids=["a type", "types of one short name", "a queue"],
)
def test_what_rests_is_found_without_walking_past_all_that_came_since(resting, filter_):
    rows = databases.rows(resting.database_url, "SELECT max(id::text) FROM task WHERE queue = 'rare'")
    page = list_tasks(filter_, limit=11, offset=0, retrying=0)
    assert pages_touched(resting.database_url, page) < 150
    below = TaskFilter(task_types=filter_.task_types, queue=filter_.queue, before_id=str(rows[0][0]))
    assert pages_touched(resting.database_url, list_tasks(below, limit=11, offset=0, retrying=0)) < 150
