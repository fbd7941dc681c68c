"""Errors and results that hold a NUL or half of a surrogate pair: JSON can, PostgreSQL's text cannot. All are read."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.read_flower import read_flower_tasks
from ledgerq_shared.statements.read_metrics import count_worker_deaths
from ledgerq_shared.states import State
from ledgerq_worker.slot.encoding import describe_error, to_json
from tests.support import databases
from tests.support.lives import Worker

if TYPE_CHECKING:
    from tests.support.api import Api

ODD = ["a\0b", "lone \ud800 surrogate", "\udfff", "\ud83d\ude00 whole"]


def _failed(api: Api, text: str) -> str:
    task_id = api.submit()
    with Worker(api.database_url) as worker:
        task = worker.claim()[task_id]
        worker.begin(task)
        worker.end(
            task, State.FAILURE, before=State.STARTED, error=describe_error(ValueError(text), f"Traceback: {text}")
        )
    return task_id


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_every_read_of_a_failure_with_an_odd_text_is_answered(api: Api, text: str):
    task_id = _failed(api, text)
    for path in ("status", "", "events", "explain", "attempts"):
        answer = api.get(f"/tasks/{task_id}/{path}".rstrip("/"))
        assert answer.status in (200, 404 if path == "attempts" else 200), (path, answer.body)
        answer.json()
    for path in ("/tasks/", "/queues", "/scaling"):
        assert api.get(path).status == 200, path
    assert api.get("/tasks/", status="FAILURE").status == 200
    assert api.get(f"/tasks/{task_id}/stream", headers={"accept": "text/event-stream"}).status == 200
    assert api.post(f"/tasks/{task_id}/retry", {}).status == 202


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_result_with_an_odd_text_is_read(api: Api, text: str):
    task_id = api.submit()
    with Worker(api.database_url) as worker:
        worker.end(worker.claim()[task_id], State.SUCCESS, result=to_json({text: [text]}))
    for path in ("status", "", "events", "explain"):
        answer = api.get(f"/tasks/{task_id}/{path}".rstrip("/"))
        assert answer.status == 200, (path, answer.body)
        answer.json()
    assert api.get("/tasks/").status == 200


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_the_metric_of_quarantined_tasks_counts_beside_a_failure_with_an_odd_text(api: Api, text: str):
    task_id = _failed(api, text)
    databases.execute(api.database_url, f"UPDATE task SET worker_deaths = 1 WHERE id = '{task_id}'")
    other = api.submit()
    databases.execute(
        api.database_url,
        f"""UPDATE task SET worker_deaths = 3, state = 'FAILURE', completed_at = now(), error = json_build_object(
              'type', 'TaskQuarantined', 'message', 'm', 'traceback', NULL, 'retryable', false) WHERE id = '{other}'""",
    )
    with closing(Database(api.database_url, application_name="test")) as pool:
        assert pool.fetch(count_worker_deaths()) == [(0, 1)]
        with pool.transaction() as cursor:
            assert len(execute(cursor, read_flower_tasks([task_id]))) == 1
