"""Tasks of a plain Celery producer are found by the ids that it knows."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import redis
from celery import Celery

from tests.integration.worker.conftest import Work
from tests.support import http, wait

IDS = [
    "order 4711", "Bestellung-ä", "3F2504E0-4F89-41D3-9A0C-0305E82C3301", None, "a/b", "/a//b/", "a/b/status",
    "submit/batch", "tab\tin", "line\nbreak\r\n", "no\u00a0break", "a%2Fb", "?q=1#x", "..", "\u4efb\u52a1/1", "x" * 600,
    "y" * 2000,
]  # fmt: skip


@pytest.fixture
def producer(redis_database: str):
    app = Celery("producer", broker=redis_database, set_as_current=False)
    app.conf.task_default_queue = "default"
    yield app
    app.close()


def test_an_adopted_task_is_found_by_its_celery_id_whatever_text_that_is(work: Work, producer: Celery):
    work.start()
    api = work.stack.api()
    for celery_id in IDS:
        sent = producer.send_task("contract_tasks.add", (1, 2), task_id=celery_id).id

        def status(sent=sent):
            return http.request("GET", f"{api.url}/tasks/{quote(sent, safe='')}/status")

        wait.until(lambda status=status: status().status == 200, 30, what="adoption")
        own_id = status().json()["task_id"]
        assert own_id != sent
        assert work.ended(own_id).result == 3
        for path in ("", "/status", "/events"):
            by_celery_id = http.request("GET", f"{api.url}/tasks/{quote(sent, safe='')}{path}")
            assert by_celery_id.status == 200
            assert by_celery_id.body == http.request("GET", f"{api.url}/tasks/{own_id}{path}").body
        assert http.request("GET", f"{api.url}/tasks/{quote(sent, safe='')}").json()["celery_id"] == sent
        for path in ("explain", "stream"):
            assert http.request("GET", f"{api.url}/tasks/{quote(sent, safe='')}/{path}").status == 200
    assert http.request("GET", f"{api.url}/tasks/{quote('order 4712')}/status").status == 404


def test_an_id_that_no_index_could_hold_is_put_away_and_said(work: Work, producer: Celery):
    worker = work.start()
    producer.send_task("contract_tasks.add", (1, 2), task_id="z" * 2001)
    worker.says("its id has more than 2,000 bytes")
    with redis.Redis.from_url(work.stack.environment["REDIS_URL"]) as client:
        wait.until(lambda: client.llen("ledgerq.refused:default") == 1, what="it is put away")
