"""Slow lists take nothing from others: readiness has its own way, a key its share, and too slow is said once, as it is."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledgerq_api.tasks import listing
from ledgerq_api.tasks import service as tasks_service
from tests.support import wait

LISTS = 12


@pytest.fixture
def slow_lists(monkeypatch):
    """Every list keeps PostgreSQL busy until it is let go; how many have begun."""
    begun, over = [], threading.Event()

    def read_page(cursor, query):
        begun.append(query)
        while not over.is_set():
            cursor.execute("SELECT pg_sleep(0.05)")
        return listing.read_page(cursor, query)

    monkeypatch.setattr(tasks_service, "read_page", read_page)
    yield begun, over
    over.set()


def test_readiness_and_statuses_are_answered_while_lists_take_long(api, slow_lists):
    begun, over = slow_lists
    task_id = api.submit()
    with ThreadPoolExecutor(LISTS) as clients:
        lists = [clients.submit(api.get, "/tasks/") for _ in range(LISTS)]
        wait.until(lambda: begun, 20)
        for _ in range(3):
            assert api.get("/readyz").json()["status"] == "ready"
            assert api.get("/health").json()["status"] == "healthy"
            assert api.status(task_id)["status"] == "PENDING"
            assert api.get("/queues").status == 200
        assert len(begun) == 3, "one key has no more of them at a time"
        over.set()
        assert {one.result().status for one in lists} == {200}


def test_a_list_that_takes_too_long_is_tried_once_and_says_so(api, monkeypatch):
    tries = []

    def too_slow(cursor, _query):
        tries.append(1)
        cursor.execute("SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(30)")

    monkeypatch.setattr(listing, "_read", too_slow)
    answer = api.get("/tasks/")
    assert (answer.status, answer.json()["code"]) == (503, "query_too_slow")
    assert "PostgreSQL" not in answer.json()["detail"]
    assert len(tries) == 1
