"""Flower's pages in a real browser: the task that the API submitted is on them."""

from __future__ import annotations

import pytest

from tests.browser.chromium import rendered
from tests.support import http, wait

WORD_COUNT = "clients.celery.example_tasks.word_count"


def row(dom: str, task_id: str) -> str:
    """The table's row of a task; empty if it has none."""
    return next((one for one in dom.split("<tr") if task_id in one), "")


@pytest.mark.timeout(1200)
def test_the_task_that_the_api_submitted_is_on_flowers_page(stack, workspace):
    stack.register()
    api = stack.api()
    flower = stack.flower()
    profile = workspace / "profile"

    def submit(document: str) -> str:
        body = {"task_type": WORD_COUNT, "task_parameters": {"document_id": document}}
        return http.request("POST", f"{api.url}/tasks/submit", body).json()["task_id"]

    def page_with(task_id: str, state: str) -> str | None:
        dom = rendered(f"{flower.url}/tasks", profile)
        return dom if state in row(dom, task_id) else None

    def page(path: str) -> str:
        return wait.until(lambda: rendered(flower.url + path, profile), 300, what=path)

    # No worker has ever heard of these two.
    task_id, cancelled = submit("notes-1"), submit("notes-2")
    assert http.request("POST", f"{api.url}/tasks/{cancelled}/cancel", {}).status == 202
    waiting = wait.until(lambda: page_with(task_id, "PENDING"), 300, what="the waiting task is on the page")
    assert WORD_COUNT in row(waiting, task_id)
    assert "notes-1" in row(waiting, task_id)
    told = wait.until(lambda: page_with(cancelled, "REVOKED"), 300, what="the cancelled task is on the page")
    assert "notes-2" in row(told, cancelled)

    stack.worker().says("worker.events.on", 60)
    tasks = wait.until(lambda: page_with(task_id, "SUCCESS"), 300, what="the task is on the page")
    assert "ledgerq@" in row(tasks, task_id)
    assert "ledgerq.drain" not in tasks
    assert "Progress" in tasks
    one = page(f"/task/{task_id}")
    assert "Attempts" in one
    assert WORD_COUNT in one
    assert "ledgerq@" in one
    workers = page("/workers")
    assert "ledgerq@" in workers
    assert "Waiting tasks" in page("/broker")
