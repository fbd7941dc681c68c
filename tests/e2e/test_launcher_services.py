"""The launcher with the real services: the users' first minutes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from ledgerq_shared.embedded.processes import of_launch
from tests.support import http, wait
from tests.support.launcher import launch, recorded

READY = "LedgerQ is running."


def finished(url):
    status = http.request("GET", url).json()
    return status if status["status"] in ("SUCCESS", "FAILURE", "REVOKED") else None


def submit_doc_123(base):
    body = {
        "task_type": "clients.celery.example_tasks.process_document",
        "task_parameters": {"document_id": "doc-123", "options": {"format": "pdf", "quality": "high"}},
    }
    answer = http.request("POST", f"{base}/tasks/submit", body)
    assert answer.status == 202, answer.body
    return f"{base}/tasks/{answer.json()['task_id']}/status"


def test_the_curl_on_the_screen_processes_the_document_and_ctrl_c_leaves_no_process(bare_stack):
    running = launch(bare_stack, "--run-monitor", standins=False)
    text = running.says("Stop with Ctrl-C", timeout=90)
    command = text[text.index("curl -s") :].partition("\n  curl")[0]
    answer = subprocess.run(shlex.split(command.replace("\\\n", " ")), capture_output=True, check=True, text=True)
    task = f"{running.url}/tasks/{json.loads(answer.stdout)['task_id']}/status"
    status = wait.until(lambda: finished(task), 60, what=running.log)
    assert status["status"] == "SUCCESS"
    assert status["result"]["pages_processed"] == 15
    running.send(signal.SIGINT)
    assert running.wait() == 0
    assert of_launch(running.token) == []
    assert "Traceback" not in running.log()


def test_after_a_kill_9_of_the_launcher_the_next_start_cleans_up_and_the_ledger_is_whole(bare_stack):
    first = launch(bare_stack, standins=False)
    first.says(READY, timeout=90)
    task = submit_doc_123(first.url)
    wait.until(lambda: finished(task), 60, what=first.log)
    left = recorded(bare_stack.folder / ".ledgerq")
    first.kill()
    second = launch(bare_stack, standins=False)
    second.says(READY, timeout=90)
    assert not any(process.alive() for process in left)
    assert of_launch(first.token) == []
    assert finished(task.replace(first.url, second.url))["status"] == "SUCCESS"
    assert second.stop() == 0
    assert of_launch(second.token) == []


def test_configured_stores_do_the_same(bare_stack, empty_database, redis_database):
    stores = dict.fromkeys(("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"), redis_database)
    running = launch(bare_stack, "--worker-concurrency", "1", standins=False, DATABASE_URL=empty_database, **stores)
    assert "as configured" in running.says("Stop with Ctrl-C", timeout=90)
    task = submit_doc_123(running.url)
    assert wait.until(lambda: finished(task), 60, what=running.log)["status"] == "SUCCESS"
    assert not (bare_stack.folder / ".ledgerq" / "postgres").exists()
    assert running.stop() == 0


def test_debug_logs_every_statement_and_never_a_password(bare_stack):
    running = launch(bare_stack, "--debug", standins=False)
    running.says(READY, timeout=90)
    task = submit_doc_123(running.url)
    wait.until(lambda: finished(task), 60)
    running.says("INSERT INTO task")
    for name in ("postgres", "valkey"):
        assert (bare_stack.folder / ".ledgerq" / f"{name}.password").read_text() not in running.log()


def test_api_reload_notices_an_edit(bare_stack, database, redis_database):
    running = launch(
        bare_stack,
        "--api-reload",
        "--no-worker",
        standins=False,
        DATABASE_URL=database,
        REDIS_URL=redis_database,
    )
    running.says(READY, timeout=90)

    def api_children():
        return {process.pid for process in of_launch(running.token)}

    before = api_children()
    edited = bare_stack.folder / "edited.py"
    edited.write_text("")

    def touched_and_reloaded():
        times = edited.stat()
        os.utime(edited, (times.st_atime + 1, times.st_mtime + 1))
        return api_children() - before and http.answers(f"{running.url}/readyz")

    wait.until(touched_and_reloaded, 60, interval=0.5, what=running.log)
    assert running.stop() == 0
    assert of_launch(running.token) == []


@pytest.mark.parametrize("flag", ["--help", "--bogus"])
def test_the_script_works_from_any_folder(bare_stack, flag):
    main = Path(__file__).resolve().parents[2] / "main.py"
    running = bare_stack.start("launcher", str(main), flag)
    assert running.wait() == (0 if flag == "--help" else 2)
