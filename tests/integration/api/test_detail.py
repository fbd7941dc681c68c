from __future__ import annotations

import tracemalloc

from ledgerq_shared.states import State
from tests.support import databases
from tests.support.api import ANYTHING, PROCESS_DOCUMENT
from tests.support.lives import Worker


def test_a_task_shows_everything_that_was_submitted(api):
    parameters = {"document_id": "doc-123", "options": {"format": "pdf"}}
    task_id = api.submit(PROCESS_DOCUMENT, parameters, tags=["b", "a"], metadata={"order": 7}, time_limit=5)
    detail = api.get(f"/tasks/{task_id}").json()
    assert detail["parameters"] == parameters
    assert detail["metadata"] == {"order": 7}
    assert detail["tags"] == ["b", "a"]
    assert detail["time_limit"] == 5.0
    assert (detail["priority"], detail["retries"], detail["worker_deaths"], detail["attempts"]) == (7, 0, 0, [])
    assert detail["links"].pop("stream") == f"/tasks/{task_id}/stream"  # it would not end
    for link in detail["links"].values():
        assert api.get(link).status == 200


def test_attempts_are_told_from_the_history(api):
    task_id = api.submit(ANYTHING)
    with Worker(api.database_url) as worker:
        worker.retry(worker.claim()[task_id], 0.0)
        worker.end(worker.claim()[task_id], State.SUCCESS, result="1")
    detail = api.get(f"/tasks/{task_id}").json()
    assert [(a["attempt"], a["outcome"], a["worker"]) for a in detail["attempts"]] == [
        (1, "retried", "node-1:1"),
        (2, "succeeded", "node-1:1"),
    ]
    assert not detail["attempts_truncated"]
    for attempt in detail["attempts"]:
        assert attempt["started_at"] <= attempt["ended_at"]


def test_more_attempts_than_are_told_with_large_errors_cost_little_and_are_said_to_be_more(api):
    task_id = api.submit(ANYTHING)
    databases.execute(
        api.database_url,
        f"""
        INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, claimed_at, started_at, data)
        SELECT '{task_id}', 1 + 3 * n, now(), 'retried', n, 'worker:a', now(), now(),
               json_build_object('error', repeat('x', 200000))
        FROM generate_series(1, 1200) AS n
        """,
    )
    tracemalloc.start()  # the API runs in this process
    try:
        answer = api.get(f"/tasks/{task_id}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000, "200 MB of errors are not read for it"
    assert len(answer.body) < 4 * 1024 * 1024
    attempts = answer.json()["attempts"]
    assert [one["attempt"] for one in attempts] == list(range(1, 1001))
    assert {one["outcome"] for one in attempts} == {"retried"}
    assert answer.json()["attempts_truncated"]


def test_a_running_attempt_has_no_end(api):
    task_id = api.submit(ANYTHING)
    with Worker(api.database_url) as worker:
        worker.begin(worker.claim()[task_id])
        [attempt] = api.get(f"/tasks/{task_id}").json()["attempts"]
    assert (attempt["outcome"], attempt["ended_at"]) == ("running", None)


def test_the_history_is_gapless_although_quick_steps_share_a_row(api):
    task_id = api.submit(ANYTHING)
    with Worker(api.database_url) as worker:
        worker.end(worker.claim()[task_id], State.SUCCESS, result="1")
    page = api.get(f"/tasks/{task_id}/events").json()
    assert page["task_id"] == task_id
    assert page["next_cursor"] is None
    events = page["events"]
    assert [(event["seq"], event["kind"]) for event in events] == [
        (1, "submitted"),
        (2, "dispatched"),
        (3, "started"),
        (4, "succeeded"),
    ]
    assert [event["actor"] for event in events] == ["api"] + ["worker:node-1:1"] * 3
    assert [event["attempt"] for event in events] == [0, 0, 1, 1]
    times = [event["at"] for event in events]
    assert times == sorted(times)


def test_what_an_event_says_is_written_as_every_other_json_of_the_api(api):
    task_id = api.submit(ANYTHING)
    with Worker(api.database_url) as worker:
        task = worker.claim()[task_id]
        worker.begin(task)
        worker.progress(task, 50, "half")
    text = api.get(f"/tasks/{task_id}/events").body.decode()
    assert '"data":{"progress":50,"status":"half"}' in text


def test_the_history_comes_in_pages_that_neither_repeat_nor_skip(api):
    task_id = api.submit(ANYTHING)
    with Worker(api.database_url) as worker:
        task = worker.claim()[task_id]
        worker.begin(task)
        for percent in range(7):
            worker.progress(task, float(percent), f"page {percent}")
        worker.end(task, State.SUCCESS, before=State.STARTED)
    whole = api.get(f"/tasks/{task_id}/events").json()["events"]
    assert [event["seq"] for event in whole] == list(range(1, 12))
    assert whole[4]["data"] == {"progress": 1, "status": "page 1"}
    for page_size in (1, 2, 3, 11):
        found, cursor = [], "0"
        while cursor is not None:
            page = api.get(f"/tasks/{task_id}/events", cursor=cursor, page_size=page_size).json()
            found += page["events"]
            cursor = page["next_cursor"]
        assert found == whole
