from __future__ import annotations

import concurrent.futures
import json
import re
import uuid

from ledgerq_shared.states import State
from tests.support.api import ANYTHING, PROCESS_DOCUMENT
from tests.support.lives import Worker

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")

FIELDS = [
    "task_id",
    "task_type",
    "status",
    "submitted_at",
    "started_at",
    "completed_at",
    "progress",
    "result",
    "error",
    "queue",
    "attempt",
    "max_attempts",
    "run_at",
    "worker",
    "cancel_requested",
]


def test_a_waiting_task_field_for_field(api):
    task_id = api.submit(PROCESS_DOCUMENT, {"document_id": "doc-123"})
    answer = api.get(f"/tasks/{task_id}/status")
    assert answer.headers["content-type"] == "application/json"
    status = answer.json()
    assert list(status) == FIELDS
    assert TIME.fullmatch(status.pop("submitted_at"))
    assert status == {
        "task_id": task_id,
        "task_type": PROCESS_DOCUMENT,
        "status": "PENDING",
        "started_at": None,
        "completed_at": None,
        "progress": None,
        "result": None,
        "error": None,
        "queue": "documents",
        "attempt": 0,
        "max_attempts": 4,
        "run_at": None,
        "worker": None,
        "cancel_requested": False,
    }


def test_a_running_task_shows_its_progress(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker:
        task = worker.claim()[task_id]
        worker.begin(task)
        worker.progress(task, 45.0, "第 7 页")
        status = api.status(task_id)
        assert (status["status"], status["attempt"], status["worker"]) == ("STARTED", 1, "node-1:1")
        assert TIME.fullmatch(status["started_at"])
        assert TIME.fullmatch(status["progress"].pop("timestamp"))
        assert status["progress"] == {"progress": 45, "status": "第 7 页"}
        assert b'"progress":45,' in api.get(f"/tasks/{task_id}/status").body  # not 45.0
        worker.progress(task, 33.3, None)
        assert api.status(task_id)["progress"]["progress"] == 33.3


def test_a_finished_task_shows_its_result_byte_for_byte(api):
    results = ['{"pages_processed": 15, "n": 1e2}', "null", '"\\u0000\\ud800"', "123456789012345678901234567890", "[]"]
    ids = [api.submit() for _ in results]
    with Worker(api.database_url) as worker:
        claimed = worker.claim()
        for task_id, result in zip(ids, results, strict=True):
            worker.end(claimed[task_id], State.SUCCESS, result=result)
    for task_id, result in zip(ids, results, strict=True):
        answer = api.get(f"/tasks/{task_id}/status")
        assert f'"result":{result},"error":null'.encode() in answer.body
        status = json.loads(answer.body)
        assert (status["status"], status["attempt"]) == ("SUCCESS", 1)
        assert status["submitted_at"] <= status["started_at"] <= status["completed_at"]


def test_a_failed_task_shows_its_error(api):
    error = {"type": "ValueError", "message": "失败", "traceback": "Traceback…", "retryable": False}
    task_id = api.submit()
    with Worker(api.database_url) as worker:
        worker.end(worker.claim()[task_id], State.FAILURE, error=error)
    status = api.status(task_id)
    assert (status["status"], status["error"], status["result"]) == ("FAILURE", error, None)


def test_a_task_that_waits_for_its_retry_says_until_when(api):
    task_id = api.submit(max_retries=2)
    with Worker(api.database_url) as worker:
        worker.retry(worker.claim()[task_id], 3600.0)
    status = api.status(task_id)
    assert (status["status"], status["attempt"], status["max_attempts"]) == ("RETRY", 1, 3)
    assert status["run_at"] > status["submitted_at"]


def test_an_unknown_id_is_404_whatever_it_looks_like(api):
    unknown = uuid.uuid4()
    for path in ("", "/status", "/events"):
        answer = api.get(f"/tasks/{unknown}{path}")
        assert (answer.status, answer.json()["code"]) == (404, "task_not_found")
        for odd in ("abc", "123", str(unknown)[:-1], unknown.hex, f"%7B{unknown}%7D", "%00", "%ED%A0%80", "a" * 5000):
            answer = api.get(f"/tasks/{odd}{path}")
            assert (answer.status, answer.json()["code"]) == (404, "task_not_found"), odd
            assert answer.headers["content-type"] == "application/problem+json"


def test_an_id_in_capitals_is_the_same_id(api):
    task_id = api.submit()
    assert api.status(task_id.upper())["task_id"] == task_id


def test_head_is_answered_without_a_body(api):
    from tests.support import http

    answer = http.request("HEAD", f"{api.url}/tasks/{api.submit()}/status")
    assert (answer.status, answer.body) == (200, b"")


def test_the_etag_changes_with_every_event_and_saves_the_body_until_then(api):
    task_id = api.submit()
    path = f"/tasks/{task_id}/status"
    first = api.get(path).headers["etag"]
    for known in (first, f"W/{first}", f'"other", {first}', "*"):
        again = api.get(path, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", first)
    tags = [first]
    with Worker(api.database_url) as worker:
        task = worker.claim()[task_id]
        worker.begin(task)
        tags.append(api.get(path, headers={"If-None-Match": tags[-1]}).headers["etag"])
        worker.progress(task, 10.0, None)
        tags.append(api.get(path, headers={"If-None-Match": tags[-1]}).headers["etag"])
        worker.end(task, State.SUCCESS, before=State.STARTED)
    last = api.get(path, headers={"If-None-Match": tags[-1]})
    assert last.status == 200
    tags.append(last.headers["etag"])
    assert len(set(tags)) == len(tags)


def test_a_long_poll_is_answered_when_the_task_ends(api):
    task_id = api.submit()
    with Worker(api.database_url) as worker, concurrent.futures.ThreadPoolExecutor(1) as client:
        task = worker.claim()[task_id]
        waiting = client.submit(api.get, f"/tasks/{task_id}/status", headers={"Prefer": "wait=30"})
        worker.begin(task)
        worker.end(task, State.SUCCESS, before=State.STARTED, result="1")
        answer = waiting.result(20)
    assert (answer.status, answer.json()["status"]) == (200, "SUCCESS")
    assert answer.headers["preference-applied"] == "wait=30"


def test_a_long_poll_with_an_etag_is_answered_by_the_next_event(api):
    task_id = api.submit()
    path = f"/tasks/{task_id}/status"
    tag = api.get(path).headers["etag"]
    with Worker(api.database_url) as worker, concurrent.futures.ThreadPoolExecutor(1) as client:
        task = worker.claim()[task_id]
        waiting = client.submit(api.get, path, headers={"Prefer": "respond-async, wait=30", "If-None-Match": tag})
        worker.begin(task)
        answer = waiting.result(20)
    assert (answer.status, answer.json()["status"]) == (200, "STARTED")


def test_a_long_poll_without_news_ends_in_time(api):
    task_id = api.submit()
    path = f"/tasks/{task_id}/status"
    assert api.get(path, headers={"Prefer": "wait=1"}).json()["status"] == "PENDING"
    tag = api.get(path).headers["etag"]
    assert api.get(path, headers={"Prefer": "wait=1", "If-None-Match": tag}).status == 304


def test_many_status_reads_at_once_get_their_own_answers(api):
    ids = [api.submit(ANYTHING) for _ in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as clients:
        wanted = ids * 10 + [str(uuid.uuid4())]
        answers = list(clients.map(lambda task_id: api.get(f"/tasks/{task_id}/status"), wanted))
    assert [answer.json()["task_id"] for answer in answers[:-1]] == ids * 10
    assert answers[-1].status == 404
