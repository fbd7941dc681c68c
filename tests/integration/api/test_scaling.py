"""GET /scaling."""

from __future__ import annotations

import pytest

from ledgerq_shared.statements.read_scaling import COUNTED_UP_TO
from ledgerq_shared.states import State
from tests.support import databases
from tests.support.api import ANYTHING
from tests.support.lives import Worker

FIELDS = ["backlog", "running", "oldest_seconds", "drain_seconds", "desired_workers"]


def scaling(api, **query):
    answer = api.get("/scaling", **query)
    assert answer.status == 200, answer.body
    body = answer.json()
    assert list(body) == FIELDS
    assert all(type(value) in {int, float} for value in body.values())
    return body


def test_a_queue_that_nobody_has_used_wants_nothing(api):
    assert scaling(api, queue="nobody.uses-it") == dict.fromkeys(FIELDS, 0)
    assert scaling(api) == dict.fromkeys(FIELDS, 0)


def test_waiting_tasks_want_workers_and_future_ones_do_not(api):
    for _ in range(3):
        api.submit(queue="mail")
    api.submit(queue="mail", countdown=3600)
    api.submit(queue="other")
    databases.execute(api.database_url, "UPDATE ready SET run_at = now() - interval '100 s'")
    body = scaling(api, queue="mail", slots_per_worker=1)
    assert (body["backlog"], body["running"], body["drain_seconds"], body["desired_workers"]) == (3, 0, 3.0, 1)
    assert 100 <= body["oldest_seconds"] < 200
    assert scaling(api, queue="mail", slots_per_worker=1, target_seconds=0.1)["desired_workers"] == 3


def test_run_times_are_those_of_the_queues_tasks(api):
    for _ in range(4):
        api.submit()
    with Worker(api.database_url) as worker:
        for task in worker.claim().values():
            worker.end(task, State.SUCCESS)
        databases.execute(api.database_url, "UPDATE task SET completed_at = started_at + interval '120 s'")
        for _ in range(250):  # far more than are looked at: those that ran are behind the waiting ones
            api.submit()
        body = scaling(api)
        assert body["backlog"] == 250
        # of the node's two slots
        assert body["drain_seconds"] == pytest.approx(250 * 120 / 2)
        assert body["desired_workers"] == 125
        running = worker.claim(limit=100)
        for task in running.values():
            worker.begin(task)
        body = scaling(api)
        assert (body["backlog"], body["running"]) == (150, 100)


def test_the_slots_of_a_worker_whose_lease_is_over_drain_nothing(api):
    for _ in range(6):
        api.submit()
    with Worker(api.database_url):
        assert scaling(api)["drain_seconds"] == 3.0
        databases.execute(api.database_url, "UPDATE worker SET lease_until = now() - interval '1 s'")
        assert scaling(api)["drain_seconds"] == 6.0  # as if by one slot: none is live


def test_a_paused_queue_wants_no_worker(api):
    api.submit()
    assert scaling(api)["desired_workers"] == 1
    databases.execute(api.database_url, "INSERT INTO queue (name, paused) VALUES ('default', true)")
    assert (scaling(api)["backlog"], scaling(api)["desired_workers"]) == (1, 0)


def test_a_large_backlog_is_known_from_the_counters(api):
    tasks = [{"task_type": ANYTHING}] * (COUNTED_UP_TO - 1)
    api.post("/tasks/submit/batch", {"tasks": tasks})
    api.submit(countdown=3600)
    assert scaling(api)["backlog"] == COUNTED_UP_TO - 1
    api.post("/tasks/submit/batch", {"tasks": tasks[:2501]})
    assert scaling(api)["backlog"] == COUNTED_UP_TO + 2500
    with Worker(api.database_url) as worker:
        worker.claim()
    body = scaling(api)
    assert (body["backlog"], body["running"]) == (COUNTED_UP_TO + 2400, 100)


def test_several_queues_are_one_demand(api):
    for queue in ("a", "b"):
        api.submit(queue=queue)
    answer = api.get("/scaling?queue=a&queue=b&queue=c")
    assert answer.json()["backlog"] == 2


def test_odd_questions_are_refused(api):
    for query in (
        "queue=",
        "slots_per_worker=0",
        "target_seconds=0",
        "target_seconds=nan",
        "target_seconds=x",
    ):
        answer = api.get(f"/scaling?{query}")
        assert (answer.status, answer.json()["code"]) == (422, "invalid_request"), query
