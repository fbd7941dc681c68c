"""`GET /metrics` of the API. The counters are the process's, so tests look at what has been added."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ledgerq_api.metrics import METRICS
from ledgerq_shared.postgres import replica_metrics
from tests.support import http
from tests.support.api import CATALOGUE, register, serve
from tests.support.prometheus import promtool
from tests.support.sse import EventStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.api import Api

ROUTE = "/tasks/{task_id}/status"


@pytest.fixture
def api(database: str, redis_database: str) -> Iterator[Api]:
    register(database, *CATALOGUE)
    with serve(database, redis_database) as running:
        yield running


def series(api: Api) -> dict[str, float]:
    answer = api.get("/metrics")
    assert answer.status == 200
    lines = [line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_what_a_scraper_adds_to_the_address_changes_nothing(api: Api):
    plain = {name.partition("{")[0] for name in series(api)}
    for query in ("?x=1", "?name%5B%5D=ledgerq_api_streams", "?format=prometheus&x=1&x=2", "?"):
        answer = api.get(f"/metrics{query}")
        assert answer.status == 200
        assert plain <= {line.partition("{")[0].partition(" ")[0] for line in answer.body.decode().splitlines()}


@contextmanager
def added(api: Api) -> Iterator[dict[str, float]]:
    """What the block adds, by series; without those that stay."""
    before, found = series(api), {}
    yield found
    after = series(api)
    found.update({name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)})


def count(method: str, route: str, status: int) -> str:
    return f'ledgerq_api_request_seconds_count{{method="{method}",route="{route}",status="{status}"}}'


def test_every_metric_of_the_reference_is_there_and_no_other(api):
    api.status(api.submit())
    body = api.get("/metrics").body
    here = {metric.name for metric in METRICS} - {
        metric.name for metric in replica_metrics.METRICS
    }  # there is no replica
    assert set(re.findall(r"^# TYPE (ledgerq_\w+)", body.decode(), re.MULTILINE)) == here
    promtool("check", "metrics", told=body)


def test_requests_are_counted_by_the_routes_template_and_status(api):
    with added(api) as found:
        first, second = api.submit(), api.submit()
        api.status(first)
        api.status(second)
        api.get("/tasks/nobody/status")
        api.get("/no/such/page")
        api.get(f"/tasks/{first}")
    assert found[count("POST", "/tasks/submit", 202)] == 2
    assert found[count("GET", ROUTE, 200)] == 2
    assert found[count("GET", ROUTE, 404)] == 1
    assert found[count("GET", "unmatched", 404)] == 1
    assert found[count("GET", "/tasks/{task_id}", 200)] == 1
    assert not [name for name in found if first in name]


def test_head_is_counted_by_the_same_template_as_get(api):
    task_id = api.submit()
    with added(api) as found:
        for path in (f"/tasks/{task_id}/status", f"/tasks/{task_id}", "/tasks/", f"/tasks/{task_id}/stream"):
            assert http.request("HEAD", api.url + path).status == 200
    for route in (ROUTE, "/tasks/{task_id}", "/tasks/", "/tasks/{task_id}/stream"):
        assert found[count("HEAD", route, 200)] == 1


def test_who_waits_for_news_is_counted_apart(api):
    task_id = api.submit()
    with added(api) as found:
        api.get(f"/tasks/{task_id}/status", headers={"prefer": "wait=1"})
    assert found[count("GET", f"{ROUTE} (waiting)", 200)] == 1
    assert count("GET", ROUTE, 200) not in found


def test_flushes_are_counted_with_their_tasks(api):
    with added(api) as found:
        task_id = api.submit()
        api.post("/tasks/submit/batch", {"tasks": [{"task_type": "demo.anything", "task_parameters": {}}] * 25})
        api.status(task_id)
    assert found['ledgerq_api_flush_tasks_sum{kind="submit"}'] == 1
    assert found['ledgerq_api_flush_tasks_count{kind="batch"}'] == 1
    assert found['ledgerq_api_flush_tasks_sum{kind="batch"}'] == 25
    assert found['ledgerq_api_flush_tasks_sum{kind="status"}'] >= 1
    assert found['ledgerq_api_flush_seconds_sum{kind="batch"}'] > 0


def test_open_streams_are_counted(api):
    task_id = api.submit()
    assert series(api)["ledgerq_api_streams"] == 0
    with EventStream(f"{api.url}/tasks/{task_id}/stream") as stream:
        stream.until("submitted")
        found = series(api)
        assert found["ledgerq_api_streams"] == 1
        assert found["ledgerq_api_requests_in_progress"] == 2  # the stream, and this one
