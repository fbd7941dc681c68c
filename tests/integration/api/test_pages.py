"""Pages have a bound in bytes: however large the rows are, an answer stays small, and the cursor leads through all."""

from __future__ import annotations

import tracemalloc

from ledgerq_api.answers.pages import MOST_BYTES
from tests.support import databases
from tests.support.api import ANYTHING

#: A page's brackets, and the numbers beside its rows.
_FRAME = 2000


def through(api, path, field, identity, **query):
    """Everything, by cursor; each answer within its bound."""
    found, cursor = [], {}
    while True:
        answer = api.get(path, page_size=1000, **query, **cursor)
        assert answer.status == 200
        assert len(answer.body) < MOST_BYTES + _FRAME
        page = answer.json()
        assert page[field]
        found += [row[identity] for row in page[field]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_a_page_of_tasks_with_large_tags_ends_early_and_the_cursor_goes_on(api):
    tags = [f"{number:02}" + "\u6f22" * 126 for number in range(32)]
    tasks = [{"task_type": ANYTHING, "tags": tags if number < 420 else None} for number in range(600)]
    made = api.post("/tasks/submit/batch", {"tasks": tasks}, timeout=120).json()["tasks"]
    ids = [task["task_id"] for task in reversed(made)]
    assert through(api, "/tasks/", "tasks", "task_id") == ids
    by_number = api.get("/tasks/", page=1, page_size=1000).json()
    assert (len(by_number["tasks"]) < 600, by_number["total_count"]) == (True, 600)
    assert by_number["next_cursor"] == by_number["tasks"][-1]["task_id"]


def test_a_page_of_a_history_with_large_steps_ends_early_and_the_cursor_goes_on(api):
    task_id = api.submit(ANYTHING)
    databases.execute(
        api.database_url,
        "INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data) SELECT "
        f"'{task_id}', n, now(), 'log', 0, 'worker:w', json_build_object('message', repeat('x', 30000)) "
        "FROM generate_series(2, 400) AS s(n)",
    )
    assert through(api, f"/tasks/{task_id}/events", "events", "seq") == list(range(1, 401))


def test_a_page_of_a_history_takes_no_more_memory_than_a_page(api):
    task_id = api.submit(ANYTHING)
    databases.execute(
        api.database_url,
        "INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data) SELECT "
        f"'{task_id}', n, now(), 'log', 0, 'worker:w', json_build_object('message', repeat('x', 64000)) "
        "FROM generate_series(2, 1000) AS s(n)",
    )
    api.get(f"/tasks/{task_id}/events", page_size=1)
    tracemalloc.start()
    try:
        assert api.get(f"/tasks/{task_id}/events", page_size=1000).json()["next_cursor"]
        assert tracemalloc.get_traced_memory()[1] < 8 * MOST_BYTES
    finally:
        tracemalloc.stop()


def test_one_row_that_is_larger_than_a_page_is_a_page(api):
    task_id = api.submit(ANYTHING)
    databases.execute(
        api.database_url,
        "INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data) SELECT "
        f"'{task_id}', n, now(), 'log', 0, 'worker:w', json_build_object('message', repeat('x', 5000000)) "
        "FROM generate_series(2, 3) AS s(n)",
    )
    pages = [api.get(f"/tasks/{task_id}/events", cursor=cursor).json() for cursor in (0, 1, 2)]
    assert [[step["seq"] for step in page["events"]] for page in pages] == [[1], [2], [3]]
    assert [page["next_cursor"] for page in pages] == ["1", "2", None]
