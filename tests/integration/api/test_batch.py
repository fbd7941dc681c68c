from __future__ import annotations

import json

import redis

from tests.support import databases, wait
from tests.support.api import ANYTHING, PROCESS_DOCUMENT

ITEM = {"task_type": ANYTHING, "task_parameters": {"n": 1}}


def count(api, table="task"):
    [(found,)] = databases.rows(api.database_url, f"SELECT count(*) FROM {table}")
    return found


def test_a_batch_is_accepted_in_the_order_sent(api, redis_database):
    tasks = [{**ITEM, "task_parameters": {"n": n}} for n in range(1000)]
    answer = api.post("/tasks/submit/batch", {"tasks": tasks})
    assert answer.status == 202
    body = answer.json()
    assert body["accepted"] == len(body["tasks"]) == 1000
    assert {entry["status"] for entry in body["tasks"]} == {"PENDING"}
    rows = databases.rows(api.database_url, "SELECT id::text, (parameters->>'n')::int FROM task ORDER BY id")
    assert rows == [(entry["task_id"], n) for n, entry in enumerate(body["tasks"])]
    assert count(api, "ready") == count(api, "task_event") == 1000
    assert api.get("/tasks/").json()["total_count"] == 1000
    with redis.Redis.from_url(redis_database) as client:
        wait.until(lambda: client.llen("default"), 10, what="a ticket")


def test_ten_thousand_are_accepted_and_one_more_is_not(api):
    tasks = [ITEM] * 10_000
    assert api.post("/tasks/submit/batch", {"tasks": tasks}).json()["accepted"] == 10_000
    answer = api.post("/tasks/submit/batch", {"tasks": [*tasks, ITEM]})
    assert (answer.status, answer.json()["code"]) == (422, "invalid_request")
    assert count(api) == 10_000


def test_one_bad_item_refuses_all_and_is_named_by_its_index(api):
    cases = [
        ({**ITEM, "priority": 10}, "invalid_request", "#/tasks/700/priority"),
        ({**ITEM, "colour": "red"}, "invalid_request", "#/tasks/700"),
        ({**ITEM, "tags": ["\0"]}, "invalid_request", "#/tasks/700/tags/0"),
        ({**ITEM, "metadata": 5}, "invalid_request", "#/tasks/700/metadata"),
        ({"task_type": PROCESS_DOCUMENT}, "invalid_parameters", "#/tasks/700/task_parameters"),
        ({"task_type": ANYTHING, "task_parameters": 5}, "invalid_parameters", "#/tasks/700/task_parameters"),
        ({"task_type": "demo.anythin"}, "unknown_task_type", "#/tasks/700/task_type"),
        (7, "invalid_request", "#/tasks/700"),
    ]
    for bad, code, pointer in cases:
        tasks = [ITEM] * 1000
        tasks[700] = bad
        answer = api.post("/tasks/submit/batch", {"tasks": tasks})
        problem = answer.json()
        assert (answer.status, problem["code"]) == (422, code), bad
        assert problem["errors"][0]["pointer"] == pointer
        assert "700" in problem["detail"]
    assert count(api) == count(api, "ready") == count(api, "task_event") == count(api, "task_count") == 0


def test_odd_batches_are_refused(api):
    for body in (b"{}", b'{"tasks": []}', b'{"tasks": {}}', b'{"tasks": [], "x": 1}', b"[]"):
        answer = api.post("/tasks/submit/batch", body)
        assert (answer.status, answer.json()["code"]) == (422, "invalid_request")
    assert api.post("/tasks/submit/batch", b"{").json()["code"] == "malformed_json"


def test_a_batch_beyond_sixteen_megabytes_is_refused_and_one_below_is_accepted(api):
    large = json.dumps({**ITEM, "task_parameters": {"x": "y" * 1_000_000}})
    body = f'{{"tasks": [{",".join([large] * 15)}]}}'.encode()
    assert api.post("/tasks/submit/batch", body).status == 202
    answer = api.post("/tasks/submit/batch", f'{{"tasks": [{",".join([large] * 17)}]}}'.encode())
    assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
    assert count(api) == 15


def test_a_batch_takes_no_idempotency_key(api):
    answer = api.post("/tasks/submit/batch", {"tasks": [ITEM]}, headers={"Idempotency-Key": "k"})
    assert answer.status == 422
    assert count(api) == 0
