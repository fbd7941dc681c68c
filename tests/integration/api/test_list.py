from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.dispatch import promote_due
from ledgerq_shared.states import State
from tests.support import databases
from tests.support.api import ANYTHING, OTHER, PROCESS_DOCUMENT
from tests.support.lives import Worker

SUMMARY = {
    "task_id",
    "task_type",
    "status",
    "submitted_at",
    "started_at",
    "completed_at",
    "progress",
    "queue",
    "priority",
    "attempt",
    "run_at",
    "cancel_requested",
    "tags",
}


@pytest.fixture
def mixed(api):
    """Tasks of every state, type and queue; some with tags. Also a RETRY that is due again, in `ready`."""
    for number in range(4):
        for queue, kind in itertools.product(("default", "side"), (ANYTHING, OTHER)):
            api.submit(kind, queue=queue, tags=["even"] if number % 2 == 0 else ["odd", kind])
        api.submit(PROCESS_DOCUMENT, {"document_id": str(number)})
    api.submit(countdown=3600)
    with Worker(api.database_url, queues=("default", "side", "documents")) as worker:
        for queue in ("default", "side", "documents"):
            steps = iter(worker.claim(queue, limit=6).values())
            worker.end(next(steps), State.SUCCESS, result="1")
            worker.end(next(steps), State.FAILURE, error={"type": "ValueError"})
            worker.retry(next(steps), 0.0 if queue == "side" else 3600.0)
            worker.begin(next(steps))
    database = Database(api.database_url, application_name="test")
    with database.transaction() as cursor:
        execute(cursor, promote_due(limit=100))
    database.close()
    api.submit()
    api.submit(OTHER, tags=["even"])
    return api


def expected(api, where="true", parameters=()):
    found = databases.rows(api.database_url, f"SELECT id::text FROM task WHERE {where} ORDER BY id DESC", parameters)
    return [task_id for (task_id,) in found]


def ids(page):
    return [task["task_id"] for task in page["tasks"]]


def test_the_users_example_is_answered_field_for_field(mixed):
    answer = mixed.get("/tasks/", page=1, page_size=10, task_type="process_document", status="SUCCESS")
    assert answer.status == 200
    page = answer.json()
    assert list(page)[:4] == ["tasks", "total_count", "page", "page_size"]
    assert (page["total_count"], page["page"], page["page_size"]) == (1, 1, 10)
    [task] = page["tasks"]
    assert set(task) == SUMMARY
    assert (task["task_type"], task["status"]) == (PROCESS_DOCUMENT, "SUCCESS")
    assert task["submitted_at"] <= task["started_at"] <= task["completed_at"]


def test_the_list_without_a_slash_is_the_same(mixed):
    assert mixed.get("/tasks").body == mixed.get("/tasks/").body


def test_every_combination_of_filters_lists_and_counts_what_sql_finds(mixed):
    types = {None: "true", ANYTHING: f"task_type = '{ANYTHING}'", "anything": "task_type LIKE '%%.anything'"}
    states = {None: "true", **{str(state): f"state = '{state}'" for state in State}}
    queues = {None: "true", "side": "queue = 'side'", "nowhere": "false"}
    tags = {None: "true", "even": "'even' = ANY(tags)"}
    for filters in itertools.product(types.items(), states.items(), queues.items(), tags.items()):
        names = ("task_type", "status", "queue", "tag")
        query = {name: value for name, (value, _) in zip(names, filters, strict=True) if value is not None}
        wanted = expected(mixed, " AND ".join(sql for _, sql in filters))
        page = mixed.get("/tasks/", page_size=100, **query).json()
        assert ids(page) == wanted, query
        assert (page["total_count"], page["total_is_minimum"]) == (len(wanted), False), query


def test_pages_and_cursors_show_every_task_once_newest_first(mixed):
    for query in ({}, {"status": "PENDING"}, {"task_type": "anything"}, {"tag": "even"}, {"status": "STARTED"}):
        wanted = ids(mixed.get("/tasks/", page_size=100, **query).json())
        by_page: list[str] = []
        for number in itertools.count(1):
            page = mixed.get("/tasks/", page=number, page_size=3, **query).json()
            assert page["total_count"] == len(wanted)
            by_page += ids(page)
            if page["next_cursor"] is None:
                break
        by_cursor, cursor = [], {}
        while cursor is not None:
            page = mixed.get("/tasks/", page_size=3, **query, **cursor).json()
            assert page["total_count"] == len(wanted)
            by_cursor += ids(page)
            cursor = None if page["next_cursor"] is None else {"cursor": page["next_cursor"]}
        assert by_page == by_cursor == wanted


def test_times_cut_the_list(mixed):
    wanted = expected(mixed)
    [(middle,)] = databases.rows(
        mixed.database_url, "SELECT submitted_at FROM task WHERE id = %s", (wanted[len(wanted) // 2],)
    )
    moment = middle.astimezone(UTC).isoformat()
    after = mixed.get("/tasks/", page_size=100, submitted_after=moment).json()
    before = mixed.get("/tasks/", page_size=100, submitted_before=moment).json()
    assert ids(after) + ids(before) == wanted
    assert after["total_count"] + before["total_count"] == len(wanted)
    waiting = mixed.get("/tasks/", page_size=100, submitted_before=moment, status="PENDING").json()
    assert ids(waiting) == [t["task_id"] for t in before["tasks"] if t["status"] == "PENDING"]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert mixed.get("/tasks/", submitted_after=later).json()["tasks"] == []


def test_moments_at_the_edge_of_time_are_no_error(mixed):
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1970-01-01T00:00:00Z"):
        for name in ("submitted_after", "submitted_before"):
            assert mixed.get("/tasks/", **{name: moment}).status == 200


def test_counting_without_counters_stops_at_ten_thousand(api):
    databases.execute(
        api.database_url,
        "INSERT INTO task (id, task_type, queue, submitted_at, parameters, tags)"
        "SELECT ('01985c3e-7a52-7d31-9b64-' || lpad(n::text, 12, '0'))::uuid, 'demo.anything', 'default', now(), '{}',"
        " '{many}' FROM generate_series(1, 10001) n;"
        "INSERT INTO task_count VALUES ('demo.anything', 'default', 'PENDING', 10001)",
    )
    page = api.get("/tasks/", tag="many").json()
    assert (page["total_count"], page["total_is_minimum"]) == (10_000, True)
    assert api.get("/tasks/").json()["total_count"] == 10_001
    assert len(api.get("/tasks/", page=10, page_size=1000).json()["tasks"]) == 1000
    beyond = api.get("/tasks/", page=11, page_size=1000)
    assert beyond.status == 422
    assert "cursor" in beyond.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        {"page": 0},
        {"page": -1},
        {"page": "x"},
        {"page": 10**30},
        {"page_size": 0},
        {"page_size": 1001},
        {"status": "DONE"},
        {"status": "success"},
        {"submitted_after": "noon"},
        {"submitted_after": "2026-01-01T00:00:00"},
        {"cursor": "x"},
        {"cursor": "01985c3e-7a52-7d31-9b64-0c4f8f0e2a11", "page": 2},
        {"queue": "a\0b"},
        {"tag": ""},
        {"task_type": "x" * 300},
        {"stauts": "SUCCESS"},
    ],
    ids=str,
)
def test_bad_queries_are_refused(bare_api, query):
    answer = bare_api.get("/tasks/", **query)
    problem = answer.json()
    assert (answer.status, problem["code"]) == (422, "invalid_request")
    assert problem["errors"]
