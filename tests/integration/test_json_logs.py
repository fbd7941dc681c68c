"""Where the log is JSON, everything that a service writes is: one line for each thing, which begins with it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import http, wait

if TYPE_CHECKING:
    from tests.support.stack import Running, Stack

TASKS = """
import logging, os, signal, subprocess, sys, threading, warnings
from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

print("imported 好")
sys.stdout.reconfigure(line_buffering=True)

@shared_task
def talk() -> str:
    print("printed 你好\\u2028second", 1)
    print("to stderr", file=sys.stderr)
    sys.stdout.buffer.write("bytes 文\\n".encode())
    logging.getLogger("mine").warning("logged 任务 %s", "\\ud800")
    print("two\\nlines")
    print()
    warnings.warn("warned")
    print("flushed", end="", flush=True)
    print("unfinished", end="")
    return "done"

@shared_task(soft_time_limit=0.5)
def talk_without_end() -> str:
    try:
        while True:
            print("and on")
            logging.getLogger("mine").debug("and on")
    except SoftTimeLimitExceeded:
        return "struck"

@shared_task
def talk_again() -> None:
    print("of another")

@shared_task
def fail_in_chinese() -> None:
    thread = threading.Thread(target=lambda: print("of a thread") or 1 / 0, name="its thread")
    thread.start()
    thread.join()
    raise ValueError("出错了" + "x" * 9000)

@shared_task
def kill_my_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def lines_of(running: Running) -> list[dict[str, Any]]:
    """Its lines, all of which are JSON that begins with the event and its level."""
    found = []
    for line in running.log().splitlines():
        fields = json.loads(line)
        assert list(fields)[:2] == ["event", "level"], line
        assert fields["service"], line
        found.append(fields)
    return found


def submit(api: Running, name: str) -> str:
    answer = http.request("POST", f"{api.url}/tasks/submit", {"task_type": f"talks.{name}", "task_parameters": {}})
    assert answer.status == 202, answer.body
    return str(answer.json()["task_id"])


def state(api: Running, task_id: str) -> str:
    return str(http.request("GET", f"{api.url}/tasks/{task_id}/status").json()["status"])


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_every_line_is_json_and_what_a_task_says_carries_its_id(stack: Stack, pool: str) -> None:
    (stack.folder / "talks.py").write_text(TASKS)
    stack.environment |= {"LEDGERQ_TASK_MODULES": "talks", "LEDGERQ_LOG_FORMAT": "json", "LANG": "C", "PYTHONUTF8": "0"}
    stack.environment |= {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1"}
    assert "imported" in stack.run("-m", "ledgerq_worker", "register")
    api, maintenance, monitor = stack.api(), stack.maintenance(), stack.monitor()
    worker = stack.worker(LEDGERQ_WORKER_CONCURRENCY="1", LEDGERQ_WORKER_POOL=pool)
    ids = {name: submit(api, name) for name in ("talk", "talk_again", "fail_in_chinese")}
    for task_id in ids.values():
        wait.until(lambda task_id=task_id: state(api, task_id) in {"SUCCESS", "FAILURE"}, 60, what=worker.log)
    assert worker.stop() == 0
    services = [worker, api, maintenance, monitor]
    for service in services:
        service.stop()
        lines_of(service)
    lines = lines_of(worker)

    def of(text: str) -> dict[str, Any]:
        [found] = [line for line in lines if text in str(line["event"])]
        return found

    said = ["printed", "to stderr", "bytes", "logged", "two", "warned", "flushed", "unfinished"]
    assert {of(text).get("task_id") for text in said} == {ids["talk"]}
    assert of("of another")["task_id"] == ids["talk_again"]
    assert "task_id" not in of("imported")
    assert (of("printed")["event"], of("printed")["stream"]) == ("printed 你好\u2028second 1", "stdout")
    assert (of("to stderr")["level"], of("to stderr")["stream"]) == ("warning", "stderr")
    assert of("two")["event"] == "two\nlines"
    for text in ("imported 好", "printed 你好", "bytes 文", "logged 任务", "出错了"):
        assert text in worker.log()
    assert of("thread.failed")["thread"] == "its thread"
    if pool == "prefork":  # a process with several slots cannot tell whose thread it is
        assert of("of a thread")["task_id"] == of("thread.failed")["task_id"] == ids["fail_in_chinese"]
    assert of("worker.celery")["says"] == "worker: Warm shutdown (MainProcess)"


def test_a_task_that_prints_without_end_meets_its_soft_limit(stack: Stack) -> None:
    (stack.folder / "talks.py").write_text(TASKS)
    stack.environment |= {"LEDGERQ_TASK_MODULES": "talks", "LEDGERQ_LOG_FORMAT": "json"}
    stack.register()
    api = stack.api()
    stack.log_device = Path("/dev/null")
    stack.worker(LEDGERQ_WORKER_CONCURRENCY="1")
    tasks = [submit(api, "talk_without_end") for _ in range(4)]
    for task_id in tasks:
        wait.until(lambda task_id=task_id: state(api, task_id) == "SUCCESS", 60, what="its limit strikes")


def test_a_quarantined_task_and_a_lost_worker_are_one_line_each(stack: Stack) -> None:
    (stack.folder / "talks.py").write_text(TASKS)
    stack.environment |= {"LEDGERQ_TASK_MODULES": "talks", "LEDGERQ_LEASE_SECONDS": "2"}
    stack.register()
    api = stack.api()
    worker = stack.worker(LEDGERQ_WORKER_CONCURRENCY="1", LEDGERQ_QUARANTINE_AFTER="2")
    task_id = submit(api, "kill_my_process")
    wait.until(lambda: state(api, task_id) == "FAILURE", 60, what=worker.log)
    wait.until(lambda: "task.quarantined" in worker.log(), 30, what=worker.log)
    [quarantined] = [line for line in lines_of(worker) if line["event"] == "task.quarantined"]
    assert (quarantined["task_id"], quarantined["worker_deaths"], quarantined["level"]) == (task_id, 2, "error")
    assert quarantined["task_type"] == "talks.kill_my_process"

    worker.send(signal.SIGKILL)
    wait.until(lambda: "worker.lost" in worker.log(), 30, what=worker.log)
    [lost] = [line for line in lines_of(worker) if line["event"] == "worker.lost"]
    assert lost["worker"]

    alone = stack.worker(LEDGERQ_WORKER_NAME="alone")
    alone.says("worker.registered")
    for process in [*alone.descendants()]:
        process.send(signal.SIGKILL)
    alone.kill()
    [lost] = [line for line in json_lines_with(stack.maintenance(), "worker.lost") if line["worker"] == "alone"]
    assert lost["why"] == "lease expired"


def json_lines_with(running: Running, event: str) -> list[dict[str, Any]]:
    running.says(event)
    return [line for line in lines_of(running) if line["event"] == event]
