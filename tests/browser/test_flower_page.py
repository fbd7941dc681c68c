"""Flower's pages in a real browser: the task that the API submitted is on them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import http, wait

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WORD_COUNT = "clients.celery.example_tasks.word_count"


def rendered(url: str, profile: Path) -> str:
    """The page's DOM after its scripts have run for a while."""
    assert BROWSER, "chromium is not on PATH (Debian: apt-get install chromium)"
    # The profile is the test's own, the sandbox needs a user of its own, and a container's /dev/shm is small.
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
            "--no-first-run", "--virtual-time-budget=15000", "--timeout=60000", "--dump-dom", url,
        ],
        capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_the_task_that_the_api_submitted_is_on_flowers_page(stack, workspace):
    stack.register()
    api = stack.api()
    flower = stack.flower()
    worker = stack.worker()
    stack.maintenance()
    worker.says("worker.events.on", 60)
    body = {"task_type": WORD_COUNT, "task_parameters": {"document_id": "notes-1"}}
    task_id = http.request("POST", f"{api.url}/tasks/submit", body).json()["task_id"]
    status = f"{api.url}/tasks/{task_id}/status"
    wait.until(lambda: http.request("GET", status).json()["status"] == "SUCCESS", 60, what=stack.logs)

    def page() -> str | None:
        dom = rendered(f"{flower.url}/tasks", workspace / "profile")
        return dom if task_id in dom else None

    tasks = wait.until(page, 300, what="the task is on the page")
    assert WORD_COUNT in tasks
    assert "SUCCESS" in tasks
    assert "notes-1" in tasks
    assert "ledgerq.drain" not in tasks
    one = rendered(f"{flower.url}/task/{task_id}", workspace / "profile")
    assert WORD_COUNT in one
    assert "ledgerq@" in one
    workers = rendered(f"{flower.url}/workers", workspace / "profile")
    assert "ledgerq@" in workers
