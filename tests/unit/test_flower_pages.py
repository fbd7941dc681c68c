"""What Flower's pages say of workers."""

from __future__ import annotations

import time

import pytest
from celery.events.state import Worker
from flower.views.workers import WorkersView

from ledgerq_monitor import flower_pages


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(WorkersView, "_as_dict", WorkersView._as_dict)
    flower_pages.count_the_living_only()

    def show(heartbeat):
        page = WorkersView.__new__(WorkersView)  # as Flower asks: the page itself
        return page._as_dict(Worker("celery@a", freq=1, active=3, processed=7, heartbeats=[heartbeat]))

    return show


def test_a_worker_that_is_gone_runs_nothing_whatever_it_said_last(shown):
    gone = shown(time.time() - 3600)
    assert (gone["active"], gone["processed"], gone["hostname"]) == (0, 7, "celery@a")


def test_a_living_worker_runs_what_it_says(shown):
    assert shown(time.time())["active"] == 3
