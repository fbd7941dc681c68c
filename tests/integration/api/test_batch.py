from __future__ import annotations

import concurrent.futures
import json
import socket
from urllib.parse import urlsplit

import redis

from ledgerq_shared.broker import ticket_list
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
        wait.until(lambda: client.llen(ticket_list("default")), 30, what="a ticket")


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


def test_the_last_of_ten_thousand_is_looked_at_before_any_is_written(api):
    tasks = [*[ITEM] * 9_999, {"task_type": PROCESS_DOCUMENT, "task_parameters": {"document_id": 5}}]
    problem = api.post("/tasks/submit/batch", {"tasks": tasks}).json()
    assert problem["code"] == "invalid_parameters"
    assert problem["detail"].startswith("tasks/9999/task_parameters/document_id: 5 is not of type")
    assert problem["errors"][0]["pointer"] == "#/tasks/9999/task_parameters/document_id"
    assert count(api) == count(api, "ready") == count(api, "task_event") == count(api, "task_count") == 0


def test_a_client_that_hangs_up_in_its_batch_leaves_nothing_and_one_that_hangs_up_after_it_all_or_nothing(api):
    batch = json.dumps({"tasks": [ITEM] * 5_000}).encode()
    for sent in (len(batch) // 2, len(batch) - 1, len(batch)):
        before = count(api)
        _send_and_hang_up(api.url, batch, sent)
        assert api.post("/tasks/submit/batch", {"tasks": [ITEM]}).status == 202
        # It may still be on its way: two are written at a time. Whenever anybody looks, all of it is there, or none.
        added = count(api) - before - 1
        assert added in ({0, 5_000} if sent == len(batch) else {0})
    wait.until(lambda: _counts_agree(api), 30, what="the last batch has come to its end")


def _counts_agree(api):
    return api.get("/tasks/").json()["total_count"] == count(api) == count(api, "ready") == count(api, "task_event")


def _send_and_hang_up(url, body, sent):
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        head = f"POST /tasks/submit/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
        head += "\r\nContent-Type: application/json"
        connection.sendall(head.encode() + b"\r\n\r\n" + body[:sent])


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


def post_keyed(api, tasks, key="k"):
    return api.post("/tasks/submit/batch", {"tasks": tasks}, headers={"Idempotency-Key": key})


def test_the_same_key_and_batch_give_the_first_answer_again(api):
    tasks = [{**ITEM, "task_parameters": {"n": n}} for n in range(2000)]
    first = post_keyed(api, tasks)
    again = post_keyed(api, tasks)
    assert (first.status, again.status) == (202, 202)
    assert again.body == first.body
    assert count(api) == count(api, "ready") == count(api, "task_event") == 2000


def test_the_same_key_with_another_batch_or_a_single_task_is_refused(api):
    assert post_keyed(api, [ITEM]).status == 202
    for other in (
        post_keyed(api, [ITEM, ITEM]),
        api.post("/tasks/submit", ITEM, headers={"Idempotency-Key": "k"}),
    ):
        assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
    assert api.post("/tasks/submit", ITEM, headers={"Idempotency-Key": "single"}).status == 202
    assert post_keyed(api, [ITEM], "single").json()["code"] == "idempotency_key_reused"
    assert count(api) == 2


def test_a_refused_batch_leaves_its_key_free(api):
    assert post_keyed(api, [ITEM, {**ITEM, "priority": 10}]).status == 422
    api.submit(unique_key="u")
    refused = {**ITEM, "unique_key": "u", "unique_policy": "reject"}
    assert post_keyed(api, [ITEM, refused]).status == 409
    assert count(api, "idempotency") == 0
    assert post_keyed(api, [ITEM]).status == 202


def test_many_clients_with_one_key_make_one_batch(api):
    tasks = [{**ITEM, "task_parameters": {"n": n}} for n in range(50)]
    with concurrent.futures.ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: post_keyed(api, tasks), range(40)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body for answer in answers}) == 1
    assert count(api) == 50


def test_an_odd_idempotency_key_is_refused(api):
    answer = post_keyed(api, [ITEM], "a\tb")
    assert (answer.status, answer.json()["code"]) == (422, "invalid_request")
    assert count(api) == 0
