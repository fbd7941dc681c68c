"""Cancel, retry, rerun, explain; pause and resume."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from ledgerq_api.tasks import actions
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.cancel import find_cancel_requests, revoke_waiting
from ledgerq_shared.statements.claim import ClaimedTask, hand_back
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.statements.workers import renew_lease
from ledgerq_shared.states import State
from tests.support import databases, http, ledger_checks, wait
from tests.support.api import ANYTHING, PROCESS_DOCUMENT
from tests.support.lives import Worker


def _codes(api, task_id):
    answer = api.get(f"/tasks/{task_id}/explain", headers={"accept-language": "en"})
    assert answer.status == 200, answer.body
    return [finding["code"] for finding in answer.json()["findings"]]


def _fail(api, task_id):
    with Worker(api.database_url) as worker:
        worker.end(worker.claim()[task_id], State.FAILURE, error={"type": "ValueError", "message": "no"})


def test_a_task_cancelled_before_it_starts_never_starts(api):
    waiting, later = api.submit(ANYTHING), api.submit(ANYTHING, countdown=3600)
    for task_id in (waiting, later):
        answer = api.post(f"/tasks/{task_id}/cancel", {"reason": "not needed"})
        assert (answer.status, answer.json()["status"]) == (202, "REVOKED")
        again = api.post(f"/tasks/{task_id}/cancel", {})
        assert (again.status, again.json()["code"]) == (409, "task_is_final")
        assert api.get(f"/tasks/{task_id}/events").json()["events"][-1]["data"]["message"] == "not needed"
    with Worker(api.database_url) as worker:
        assert worker.claim() == {}
    ledger_checks.assert_all_ended(api.database_url, [waiting, later])


def test_a_claimed_task_is_asked_to_end_and_the_wish_is_a_fact(api):
    task_id = api.submit(ANYTHING)
    with Worker(api.database_url) as worker:
        task = worker.claim()[task_id]
        worker.begin(task)
        answer = api.post(f"/tasks/{task_id}/cancel", {"terminate": True})
        assert (answer.status, answer.json()["status"], answer.json()["terminate"]) == (202, "STARTED", True)
        assert api.status(task_id)["cancel_requested"]
        worker.end(task, State.SUCCESS, result="1", before=State.STARTED)
    assert api.status(task_id)["status"] == "SUCCESS"
    assert api.post(f"/tasks/{task_id}/cancel", {}).status == 409


def _is_asked(api, task_id: str) -> bool:
    return bool(api.status(task_id)["cancel_requested"])


def _hands_back(database: Database, worker: Worker, task: ClaimedTask) -> None:
    with database.transaction() as cursor:
        execute(cursor, hand_back({str(task.id): task.claim_no}))
        execute(cursor, revoke_waiting([str(task.id)], actor="worker:test"))


def _begins(database: Database, worker: Worker, task: ClaimedTask) -> None:
    worker.begin(task)


def _ends(database: Database, worker: Worker, task: ClaimedTask) -> None:
    worker.end(task, State.SUCCESS, result="1")


def _renews(database: Database, worker: Worker, task: ClaimedTask) -> None:
    """And so it hears what it is not to begin."""
    with database.transaction() as cursor:
        execute(cursor, renew_lease(worker_id=worker.id, lease=60, stopping=False))
        rows = execute(cursor, find_cancel_requests(worker_id=worker.id))
    assert [row[1] for row in rows] == [str(task.id)]


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (_hands_back, (202, "REVOKED")),
        (_begins, (202, "STARTED")),
        (_ends, (409, "SUCCESS")),
        (_renews, (202, "PENDING")),
        (None, (202, "PENDING")),
    ],
)
def test_a_cancel_of_a_claimed_task_is_answered_when_it_is_known_whether_it_has_begun(
    api, monkeypatch: pytest.MonkeyPatch, does: Callable[..., None] | None, told: tuple[int, str]
):
    if does is not None:
        monkeypatch.setattr(actions, "TOLD_WITHIN", 60.0)
    task_id = api.submit(ANYTHING)
    database = Database(api.database_url, application_name="test")
    with Worker(api.database_url) as worker, ThreadPoolExecutor(1) as threads:
        task = worker.claim()[task_id]
        answering = threads.submit(api.post, f"/tasks/{task_id}/cancel", {})
        wait.until(lambda: _is_asked(api, task_id), 30)
        if does is not None:
            assert not answering.done()
            does(database, worker, task)
            # What was renewed before the first look of whoever waits does not count.
            wait.until(lambda: answering.done() or (does is _renews and _renews(database, worker, task)), 30)
        answer = answering.result(30)
    database.close()
    assert (answer.status, answer.json()["status" if answer.status == 202 else "task_status"]) == told


def test_cancelling_nothing_and_nonsense_is_said(api):
    unknown = str(new_task_id())
    for verb in ("cancel", "retry", "rerun"):
        assert api.post(f"/tasks/{unknown}/{verb}", {}).json()["code"] == "task_not_found"
    assert api.get(f"/tasks/{unknown}/explain").status == 404
    task_id = api.submit(ANYTHING)
    for body in ({"terminat": True}, {"terminate": "yes"}, [], b"{", {"reason": "x" * 20_000}):
        assert api.post(f"/tasks/{task_id}/cancel", body).status in (400, 413, 422), body
    assert api.status(task_id)["status"] == "PENDING"


def test_a_failed_task_runs_again_under_its_id_with_its_history(api):
    task_id = api.submit(ANYTHING)
    assert api.post(f"/tasks/{task_id}/retry", {}).json()["code"] == "task_is_not_final"
    _fail(api, task_id)
    answer = api.post(f"/tasks/{task_id}/retry", {"reason": "fixed"})
    assert (answer.status, answer.json()["status"]) == (202, "PENDING")
    with Worker(api.database_url) as worker:
        worker.end(worker.claim()[task_id], State.SUCCESS, result="1")
    status = api.status(task_id)
    assert (status["status"], status["attempt"], status["error"]) == ("SUCCESS", 2, None)
    assert "resubmitted" in [event["kind"] for event in api.get(f"/tasks/{task_id}/events").json()["events"]]
    assert api.post(f"/tasks/{task_id}/retry", {}).json()["code"] == "task_is_final"
    ledger_checks.assert_all_ended(api.database_url, [task_id])


def test_a_retried_task_has_its_unique_key_back_or_is_refused(api):
    first = api.submit(ANYTHING, unique_key="one")
    _fail(api, first)
    second = api.submit(ANYTHING, unique_key="one")
    refused = api.post(f"/tasks/{first}/retry", {})
    assert (refused.status, refused.json()["code"]) == (409, "duplicate_task")
    assert api.status(first)["status"] == "FAILURE"
    assert api.post(f"/tasks/{second}/cancel", {}).status == 202
    assert api.post(f"/tasks/{first}/retry", {}).status == 202
    held = databases.rows(api.database_url, "SELECT task_id::text FROM unique_key")
    assert held == [(first,)]
    ledger_checks.assert_sound(api.database_url)


def test_a_rerun_is_a_new_task_with_the_old_parameters_and_the_edits(api):
    task_id = api.submit(PROCESS_DOCUMENT, {"document_id": "doc-1", "options": {"format": "pdf"}}, tags=["a"])
    answer = api.post(f"/tasks/{task_id}/rerun", {"task_parameters": {"document_id": "doc-2"}, "priority": 9})
    assert answer.status == 202, answer.body
    detail = api.get(f"/tasks/{answer.json()['task_id']}").json()
    assert detail["parameters"] == {"document_id": "doc-2", "options": {"format": "pdf"}}
    assert (detail["priority"], detail["tags"], detail["rerun_of"]) == (9, ["a"], task_id)
    assert detail["links"]["rerun_of"] == f"/tasks/{task_id}"
    assert detail["reruns"] == []
    again = api.post(f"/tasks/{task_id}/rerun", {}).json()["task_id"]
    both = api.get(f"/tasks/{task_id}").json()
    assert both["reruns"] == [again, answer.json()["task_id"]], "newest first"
    assert both["links"]["reruns"] == [f"/tasks/{again}", f"/tasks/{answer.json()['task_id']}"]
    wrong = api.post(f"/tasks/{task_id}/rerun", {"task_parameters": {"document_id": 5}})
    assert (wrong.status, wrong.json()["code"]) == (422, "invalid_parameters")


@pytest.mark.parametrize("celery_id", ["nightly report, 2026-11-25", "8c0d5f5e-94a3-4a0b-8c6b-0d2f8f7f1f5a"])
def test_an_adopted_task_is_controlled_by_the_id_that_its_producer_gave_it(api, celery_id):
    own = new_task_id()
    task = NewTask(own, ANYTHING, "default", "{}", options=NewTaskOptions(celery_id=celery_id, celery="{}"))
    database = Database(api.database_url, application_name="test")
    with database.transaction() as cursor:
        execute(cursor, submit_tasks([task]))
    database.close()
    address = f"/tasks/{quote(celery_id, safe='')}"
    assert api.get(f"{address}/explain").json()["task_id"] == str(own)
    cancelled = api.post(f"{address}/cancel", {}).json()
    assert (cancelled["task_id"], cancelled["status"]) == (str(own), "REVOKED")
    assert api.post(f"{address}/cancel", {}).json()["code"] == "task_is_final"
    assert api.post(f"{address}/retry", {}).json() == {"task_id": str(own), "status": "PENDING"}
    made = api.post(f"{address}/rerun", {}).json()
    assert made["rerun_of"] == str(own)
    assert api.get(f"/tasks/{made['task_id']}").json()["rerun_of"] == str(own)
    ledger_checks.assert_sound(api.database_url)


def test_explain_says_what_is_in_the_way(api):
    task_id = api.submit(ANYTHING)
    assert "no_worker_for_queue" in _codes(api, task_id)
    assert _codes(api, api.submit(ANYTHING, countdown=3600))[0] == "eta"
    with Worker(api.database_url) as worker:
        assert http.request("PUT", f"{api.url}/queues/default", {"paused": True}).status == 200
        assert "queue_paused" in _codes(api, task_id)
        assert worker.claim() == {}
        assert api.post("/queues/default/resume", {}).json() == {"name": "default", "paused": False}
        task = worker.claim()[task_id]
        worker.begin(task)
        assert _codes(api, task_id)[0] == "running"
        worker.end(task, State.SUCCESS, result="1", before=State.STARTED)
    assert _codes(api, task_id) == ["ended"]


def test_explain_says_why_a_failure_was_not_retried(api):
    tasks = {
        api.submit(ANYTHING): {"type": "ValueError", "message": "", "traceback": "", "retryable": True},
        api.submit(ANYTHING): {"type": "TaskQuarantined", "message": "", "traceback": None, "retryable": False},
    }
    with Worker(api.database_url) as worker:
        claimed = worker.claim(limit=2)
        for task_id, error in tasks.items():
            worker.begin(claimed[task_id])
            worker.end(claimed[task_id], State.FAILURE, error=error, before=State.STARTED)
    retryable, quarantined = tasks
    assert _codes(api, retryable) == ["ended", "not_retried"]
    assert _codes(api, quarantined) == ["ended"]
    text = api.get(f"/tasks/{retryable}/explain").json()["findings"][1]["text"]
    assert "autoretry_for" in text
    assert "/tasks/{task_id}/retry" in text


def test_a_queue_that_was_never_used_is_not_paused_by_a_slip(api):
    assert api.post("/queues/defualt/pause", {}).json()["code"] == "queue_not_found"
    assert http.request("PUT", f"{api.url}/queues/defualt", {"paused": False}).status == 200
    assert api.post("/queues/defualt/pause", {}).status == 200
