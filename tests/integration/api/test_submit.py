from __future__ import annotations

import concurrent.futures
import json
import uuid

import redis

from ledgerq_shared.broker import ticket_list
from tests.support import api as api_support
from tests.support import databases, wait
from tests.support.api import ANYTHING, PROCESS_DOCUMENT
from tests.support.ports import free_port

USERS_BODY = {
    "task_type": PROCESS_DOCUMENT,
    "task_parameters": {"document_id": "doc-123", "options": {"format": "pdf", "quality": "high"}},
}


def stored(api, task_id, columns):
    [row] = databases.rows(api.database_url, f"SELECT {columns} FROM task WHERE id = %s", (task_id,))
    return row


def count(api, table="task"):
    [(found,)] = databases.rows(api.database_url, f"SELECT count(*) FROM {table}")
    return found


def test_the_users_example_is_answered_field_for_field(api):
    answer = api.post("/tasks/submit", USERS_BODY)
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["task_id", "status", "message"]
    assert body["status"] == "PENDING"
    assert body["message"] == "任务已成功提交"
    assert "任务已成功提交".encode() in answer.body  # readable in a terminal, not escaped
    assert str(uuid.UUID(body["task_id"])) == body["task_id"]
    assert answer.headers["location"] == f"/tasks/{body['task_id']}/status"
    assert api.get(answer.headers["location"]).status == 200


def test_the_message_is_in_the_clients_language(api):
    for accepted, message in (
        ("en-GB,en;q=0.9", "Task submitted"),
        ("zh-CN", "任务已成功提交"),
        ("fr", "任务已成功提交"),
    ):
        answer = api.post("/tasks/submit", USERS_BODY, headers={"Accept-Language": accepted})
        assert answer.json()["message"] == message


def test_the_locale_setting_decides_for_other_languages(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database, locale="en") as api:
        assert api.post("/tasks/submit", USERS_BODY).json()["message"] == "Task submitted"


def test_a_submits_message_alone_is_chinese_unless_somebody_asks(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    nobody = uuid.uuid4()
    for locale, spoken, title in (
        (None, "任务已成功提交", "No task has this id."),
        ("en", "Task submitted", "No task has this id."),
        ("zh", "任务已成功提交", "没有此 ID 的任务。"),
    ):
        with api_support.serve(database, redis_database, locale=locale) as api:
            answer = api.post("/tasks/submit", USERS_BODY).json()
            assert answer["message"] == spoken
            findings = api.get(f"/tasks/{answer['task_id']}/explain").json()["findings"]
            assert findings[0]["text"].isascii() == (locale != "zh")
            for path in (f"/tasks/{nobody}/status", f"/tasks/{nobody}"):
                assert api.get(path).json()["title"] == title
            for language, asked in (("en", "No task has this id."), ("zh-CN", "没有此 ID 的任务。")):
                problem = api.get(f"/tasks/{nobody}/status", headers={"accept-language": language}).json()
                assert problem["title"] == asked
                assert problem["code"] == "task_not_found"


def test_an_accepted_task_is_committed_with_its_event_its_count_and_its_place_in_the_queue(api):
    task_id = api.submit(PROCESS_DOCUMENT, USERS_BODY["task_parameters"])
    assert stored(api, task_id, "task_type, queue, priority, state, parameters, attempt") == (
        PROCESS_DOCUMENT,
        "documents",
        7,
        "PENDING",
        USERS_BODY["task_parameters"],
        0,
    )
    assert databases.rows(api.database_url, "SELECT kind, seq, actor FROM task_event") == [("submitted", 1, "api")]
    assert databases.rows(api.database_url, "SELECT queue, priority FROM ready") == [("documents", 7)]
    assert databases.rows(api.database_url, "SELECT task_type, queue, state, delta FROM task_count") == [
        (PROCESS_DOCUMENT, "documents", "PENDING", 1)
    ]


def test_every_option_reaches_the_ledger(api):
    task_id = api.submit(
        ANYTHING,
        {"a": 1},
        queue="fast.lane",
        priority=9,
        countdown=3600,
        expires=7200,
        max_retries=0,
        time_limit=30,
        soft_time_limit=20.5,
        on_worker_lost="fail",
        metadata={"order": "A-1", "nested": {"x": [1, None]}},
        tags=["a", "b", "a"],
    )
    columns = "queue, priority, max_retries, time_limit, soft_time_limit, on_worker_lost, metadata, tags"
    assert stored(api, task_id, columns) == (
        "fast.lane",
        9,
        0,
        30.0,
        20.5,
        "fail",
        {"order": "A-1", "nested": {"x": [1, None]}},
        ["a", "b"],
    )
    waits = "extract(epoch FROM run_at - submitted_at)::int, extract(epoch FROM expires_at - submitted_at)::int"
    assert stored(api, task_id, waits) == (3600, 7200)
    assert databases.rows(api.database_url, "SELECT reason FROM held") == [("eta",)]
    assert count(api, "ready") == 0


def test_eta_and_expires_may_be_moments_in_any_offset(api):
    task_id = api.submit(ANYTHING, eta="2099-01-01T08:00:00+08:00", expires="2099-01-02T00:00:00Z")
    status = api.status(task_id)
    assert status["run_at"] == "2099-01-01T00:00:00Z"
    assert api.get(f"/tasks/{task_id}").json()["expires_at"] == "2099-01-02T00:00:00Z"


def test_null_is_the_same_as_leaving_a_field_out(api):
    names = ["queue", "priority", "eta", "countdown", "expires", "max_retries", "metadata", "tags"]
    assert api.submit(ANYTHING, **dict.fromkeys(names))


KEPT = [
    '{"nul": "\\u0000"}',
    '{"big": 123456789012345678901234567890, "small": 0.1000000000000000055511151231257827}',
    '{"emoji": "😀", "escaped": "\\ud83d\\ude00"}',
    '{"twice": 1, "twice": 2}',
    '{ "spaces" :  [ ] }',
    '{"deep": ' + "[" * 60 + "]" * 60 + "}",
    '{"long": "' + "x" * 1_000_000 + '"}',
]


def test_parameters_are_kept_byte_for_byte(api):
    for parameters in KEPT:
        body = f'{{"task_type": "{ANYTHING}", "task_parameters": {parameters}}}'.encode()
        answer = api.post("/tasks/submit", body)
        assert answer.status == 202, answer.body
        assert stored(api, answer.json()["task_id"], "parameters::text") == (parameters,)
        assert parameters.encode() in api.get(f"/tasks/{answer.json()['task_id']}").body


def raw(text):
    return f'{{"task_type": "{ANYTHING}", {text}}}'.encode()


BAD = [
    (b"", 400, "malformed_json"),
    (b"{not json", 400, "malformed_json"),
    (b'{"task_type": "\xff"}', 400, "malformed_json"),
    (b"\xef\xbb\xbf{}", 400, "malformed_json"),
    (b"[" * 100_000, 422, "invalid_request"),
    (b"[1]", 422, "invalid_request"),
    (b"null", 422, "invalid_request"),
    (b"{}", 422, "invalid_request"),
    (raw('"colour": "red"'), 422, "invalid_request"),
    (raw('"unique_key": ""'), 422, "invalid_request"),
    (raw('"unique_key": "a\\u0000"'), 422, "invalid_request"),
    (raw(f'"unique_key": "{"k" * 256}"'), 422, "invalid_request"),
    (raw('"unique_policy": "reject"'), 422, "invalid_request"),
    (raw('"unique_ttl": 5'), 422, "invalid_request"),
    (raw('"unique_key": "k", "unique_ttl": 0'), 422, "invalid_request"),
    (raw('"unique_key": "k", "unique_policy": "ignore"'), 422, "invalid_request"),
    (raw('"priority": 10'), 422, "invalid_request"),
    (raw('"priority": 1.5'), 422, "invalid_request"),
    (raw('"priority": "5"'), 422, "invalid_request"),
    (raw('"priority": 99999999999999999999999999'), 422, "invalid_request"),
    (raw('"queue": ""'), 422, "invalid_request"),
    (raw('"queue": "a b"'), 422, "invalid_request"),
    (raw('"queue": "ab\\n"'), 422, "invalid_request"),
    (raw(f'"queue": "{"q" * 129}"'), 422, "invalid_request"),
    (raw('"eta": "2099-01-01T00:00:00"'), 422, "invalid_request"),
    (raw('"eta": "0001-01-01T00:00:00+14:00"'), 422, "invalid_request"),
    (raw('"eta": "tomorrow"'), 422, "invalid_request"),
    (raw('"eta": "2099-01-01T00:00:00Z", "countdown": 5'), 422, "invalid_request"),
    (raw('"countdown": -1'), 422, "invalid_request"),
    (raw('"countdown": 1e300'), 422, "invalid_request"),
    (raw('"countdown": 1e400'), 422, "invalid_request"),
    (raw('"expires": true'), 422, "invalid_request"),
    (raw('"time_limit": 0'), 422, "invalid_request"),
    (raw('"time_limit": 5, "soft_time_limit": 5'), 422, "invalid_request"),
    (raw('"max_retries": -1'), 422, "invalid_request"),
    (raw('"on_worker_lost": "explode"'), 422, "invalid_request"),
    (raw('"metadata": [1]'), 422, "invalid_request"),
    (raw(f'"metadata": {{"x": "{"y" * 70_000}"}}'), 422, "invalid_request"),
    (raw('"tags": ["a\\u0000"]'), 422, "invalid_request"),
    (raw('"tags": [""]'), 422, "invalid_request"),
    (raw('"tags": ' + json.dumps([str(n) for n in range(33)])), 422, "invalid_request"),
    (raw('"task_parameters": [1]'), 422, "invalid_parameters"),
    (raw('"task_parameters": null'), 422, "invalid_parameters"),
    (raw('"task_parameters": {"x": "\\ud800"}'), 422, "invalid_request"),
    (raw('"task_parameters": {"\\uDfff ": 1}'), 422, "invalid_request"),
    (raw('"task_parameters": {"x": "\\ud800}'), 400, "malformed_json"),
    (b'{"task_type": "demo.anything", "task_parameters": {"x": "\xff"}}', 422, "invalid_parameters"),
    (raw('"task_parameters": {"x": 1e400}'), 422, "invalid_request"),
    (raw('"task_parameters": {"x": ' + "9" * 5000 + "}"), 422, "invalid_request"),
    (raw('"task_parameters": {"x": ' + "[" * 64 + "]" * 64 + "}"), 422, "invalid_parameters"),
    (raw('"task_parameters": {"x": ' + "[" * 90_000 + "]" * 90_000 + "}"), 422, "invalid_request"),
    (raw('"task_parameters": {"x": "' + "y" * 1_050_000 + '"}'), 422, "invalid_parameters"),
    (b'{"task_type": "demo.anithing"}', 422, "unknown_task_type"),
    (b'{"task_type": "nul\\u0000"}', 422, "unknown_task_type"),
    (b'{"task_type": ""}', 422, "invalid_request"),
    (raw('"x": "' + "y" * 2_100_000 + '"'), 413, "body_too_large"),
]


def test_bad_bodies_are_refused_as_problems_and_leave_nothing(api):
    for body, status, code in BAD:
        answer = api.post("/tasks/submit", body)
        told = (answer.status, answer.json().get("code"), answer.headers["content-type"])
        assert told == (status, code, "application/problem+json"), (body[:100], answer.body[:500])
    assert count(api) == 0


def test_an_unknown_type_is_answered_with_near_matches(api):
    for wrong in ("process_document", "clients.celery.example_tasks.process_documint"):
        problem = api.post("/tasks/submit", {"task_type": wrong}).json()
        assert problem["code"] == "unknown_task_type"
        assert problem["suggestions"][0] == PROCESS_DOCUMENT
        assert PROCESS_DOCUMENT in problem["detail"]


def test_parameters_that_do_not_fit_are_refused_with_their_places(api):
    body = {"task_type": PROCESS_DOCUMENT, "task_parameters": {"document_id": 7, "options": {}, "x/y": 1}}
    problem = api.post("/tasks/submit", body).json()
    assert problem["code"] == "invalid_parameters"
    assert {entry["pointer"] for entry in problem["errors"]} == {
        "#/task_parameters/document_id",
        "#/task_parameters",
    }
    assert "document_id" in problem["detail"]


def test_an_empty_catalogue_answers_503(bare_api):
    answer = bare_api.post("/tasks/submit", USERS_BODY)
    assert (answer.status, answer.json()["code"]) == (503, "no_task_types")
    assert int(answer.headers["retry-after"]) > 0


def test_a_type_registered_a_moment_ago_is_known(bare_api):
    assert bare_api.post("/tasks/submit", USERS_BODY).status == 503
    api_support.register(bare_api.database_url, *api_support.CATALOGUE)
    assert bare_api.post("/tasks/submit", USERS_BODY).status == 202


def test_a_broken_schema_in_the_catalogue_does_not_stop_submits(api):
    entry = api_support.CATALOGUE[1]._replace(name="demo.broken", parameters_schema='{"type": 5}')
    api_support.register(api.database_url, entry)
    assert api.submit("demo.broken", {"a": 1})


def test_a_body_must_be_declared_as_json(api):
    body = json.dumps(USERS_BODY).encode()
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = api.post("/tasks/submit", body, headers={"content-type": media_type})
        assert (answer.status, answer.json()["code"]) == (415, "unsupported_media_type")
    for media_type in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"):
        assert api.post("/tasks/submit", body, headers={"content-type": media_type}).status == 202


def test_the_same_key_and_body_give_the_first_answer_again(api):
    first = api.post("/tasks/submit", USERS_BODY, headers={"Idempotency-Key": "k-1"})
    again = api.post("/tasks/submit", USERS_BODY, headers={"Idempotency-Key": "k-1"})
    assert (again.status, again.body) == (202, first.body)
    assert count(api) == 1


def test_the_same_key_with_another_body_is_refused(api):
    api.post("/tasks/submit", USERS_BODY, headers={"Idempotency-Key": "k-1"})
    other = api.post("/tasks/submit", {"task_type": ANYTHING}, headers={"Idempotency-Key": "k-1"})
    assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
    assert count(api) == 1


def test_many_clients_with_one_key_make_one_task(api):
    with concurrent.futures.ThreadPoolExecutor(40) as clients:
        answers = list(
            clients.map(lambda _: api.post("/tasks/submit", USERS_BODY, headers={"Idempotency-Key": "k-1"}), range(80))
        )
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body for answer in answers}) == 1
    assert count(api) == 1
    assert count(api, "ready") == 1


def test_different_keys_in_one_batch_do_not_mix(api):
    def submit(number):
        body = {"task_type": ANYTHING, "task_parameters": {"n": number % 10}}
        return number % 10, api.post("/tasks/submit", body, headers={"Idempotency-Key": f"k-{number % 10}"}).json()[
            "task_id"
        ]

    with concurrent.futures.ThreadPoolExecutor(40) as clients:
        answers = set(clients.map(submit, range(100)))
    assert len(answers) == 10
    assert {stored(api, task_id, "parameters->>'n'") == (str(n),) for n, task_id in answers} == {True}


def test_odd_idempotency_keys_are_refused(api):
    for key in ("x" * 256, "a\tb", "schl\u00fcssel", ""):
        answer = api.post("/tasks/submit", USERS_BODY, headers={"Idempotency-Key": key})
        assert (answer.status, answer.json()["code"]) == (422, "invalid_request")
    assert count(api) == 0


def test_concurrent_submits_are_all_committed(api):
    with concurrent.futures.ThreadPoolExecutor(40) as clients:
        ids = set(clients.map(lambda n: api.submit(ANYTHING, {"n": n}), range(400)))
    assert len(ids) == 400
    assert count(api) == count(api, "ready") == count(api, "task_event") == 400


def test_a_ticket_is_in_the_broker_after_a_submit(api, redis_database):
    api.submit()
    with redis.Redis.from_url(redis_database) as client:
        wait.until(lambda: client.llen(ticket_list("default")) == 1, 30, what="one ticket")


def test_a_future_task_sends_no_ticket(api, redis_database):
    api.submit(countdown=60)
    api.submit(PROCESS_DOCUMENT, {"document_id": "x"})
    with redis.Redis.from_url(redis_database) as client:
        wait.until(lambda: client.llen(ticket_list("documents")) == 1, 30, what="the other task's ticket")
        assert client.llen(ticket_list("default")) == 0


def test_without_redis_submits_are_accepted(database):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, f"redis://127.0.0.1:{free_port()}/0") as api:
        assert api.submit()
        assert api.submit()


def test_without_postgresql_the_answer_is_503_and_says_when_to_come_back():
    nowhere = f"postgresql://ledgerq@127.0.0.1:{free_port()}/ledgerq"
    with api_support.serve(nowhere, f"redis://127.0.0.1:{free_port()}/0") as api:
        for answer in (
            api.post("/tasks/submit", USERS_BODY),
            api.post("/tasks/submit/batch", {"tasks": [USERS_BODY]}),
            api.get("/tasks/"),
            api.get(f"/tasks/{uuid.uuid4()}/status"),
            api.get("/task-types"),
        ):
            assert (answer.status, answer.json()["code"]) == (503, "ledger_unavailable")
            assert int(answer.headers["retry-after"]) > 0


def test_integers_written_as_floats_are_integers_in_every_body(api):
    item = {"task_type": ANYTHING, "task_parameters": {"x": 1.0}, "priority": 6.0, "max_retries": 3.0}
    first = api.post("/tasks/submit", item).json()["task_id"]
    batch = api.post("/tasks/submit/batch", {"tasks": [item, {"task_type": ANYTHING, "priority": 7}]}).json()
    rerun = api.post(f"/tasks/{first}/rerun", b'{"priority": 0.8e1, "max_retries": 4.0}').json()["task_id"]
    ids = [first, *(each["task_id"] for each in batch["tasks"]), rerun]
    rows = [api.get(f"/tasks/{task_id}").json() for task_id in ids]
    assert [row["priority"] for row in rows] == [6, 6, 7, 8]
    assert [row["max_retries"] for row in rows] == [3, 3, None, 4]
    assert rows[0]["parameters"] == {"x": 1.0}
    for wrong in ("6.5", "1e1", "-1.0", '"6"', "true", "1e400"):
        for path, body in WITH_INTEGER.items():
            answer = api.post(path.format(first), (body % wrong).encode())
            assert (answer.status // 100, "priority" in answer.body.decode() or wrong == "1e400") == (4, True)


WITH_INTEGER = {
    "/tasks/submit": f'{{"task_type": "{ANYTHING}", "priority": %s, "max_retries": 3.0}}',
    "/tasks/submit/batch": f'{{"tasks": [{{"task_type": "{ANYTHING}", "priority": %s, "max_retries": 3.0}}]}}',
    "/tasks/{}/rerun": '{"priority": %s, "max_retries": 3.0}',
}
