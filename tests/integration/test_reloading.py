"""A worker in development: an edit is what the next task runs, and no task is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import http, wait

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stack import Running, Stack

TASKS = """
import time
from pathlib import Path
from celery import shared_task

@shared_task
def say() -> str:
    return "{said}"

@shared_task
def wait_for(name: str) -> str:
    Path(name + ".begun").touch()
    while not Path(name).exists():
        time.sleep(0.02)
    return "{said}"
"""


def submit(api: Running, task: str, **parameters: str) -> str:
    body = {"task_type": f"edited.{task}", "task_parameters": parameters}
    answer = http.request("POST", f"{api.url}/tasks/submit", body)
    assert answer.status == 202, answer.body
    return str(answer.json()["task_id"])


def result(api: Running, task_id: str) -> object:
    task = http.request("GET", f"{api.url}/tasks/{task_id}").json()
    return task["result"] if task["status"] == "SUCCESS" else None


def attempts(api: Running, task_id: str) -> list[str]:
    return [one["outcome"] for one in http.request("GET", f"{api.url}/tasks/{task_id}").json()["attempts"]]


def write(module: Path, said: str) -> None:
    module.write_text(TASKS.format(said=said))


def test_the_next_task_runs_the_edited_code_and_running_ones_end(stack: Stack) -> None:
    module = stack.folder / "edited.py"
    write(module, "old")
    stack.environment["LEDGERQ_TASK_MODULES"] = "edited"
    stack.register()
    api = stack.api()
    worker = stack.start("worker", "-m", "ledgerq_worker", "run", "--reload", "--concurrency", "1")
    first = submit(api, "say")
    assert wait.until(lambda: result(api, first), 60, what=worker.log) == "old"

    running = submit(api, "wait_for", name="go")
    wait.until((stack.folder / "go.begun").exists, 30, what=worker.log)
    waiting = submit(api, "say")
    write(module, "new")
    worker.says("Warm shutdown")
    (stack.folder / "go").touch()
    assert wait.until(lambda: result(api, running), 60, what=worker.log) == "old"
    assert wait.until(lambda: result(api, waiting), 60, what=worker.log) == "new"
    assert attempts(api, running) == attempts(api, waiting) == ["succeeded"]

    module.write_text("this is no Python\n")
    worker.says("worker.reload.refused")
    still = submit(api, "say")
    assert wait.until(lambda: result(api, still), 60, what=worker.log) == "new"
    module.write_text(TASKS.format(said="newer") + "\n@shared_task\ndef added() -> str:\n    return 'added'\n")
    wait.until(lambda: worker.log().count("worker.registered") == 3, 60, what=worker.log)
    added = submit(api, "added")
    assert wait.until(lambda: result(api, added), 60, what=worker.log) == "added"
    assert worker.stop() == 0
    wait.until(lambda: worker.descendants() == [], 20, what="the worker ends with it")


def test_a_task_that_outlives_the_grace_period_runs_again_with_the_new_code(stack: Stack) -> None:
    module = stack.folder / "edited.py"
    write(module, "old")
    stack.environment |= {"LEDGERQ_TASK_MODULES": "edited", "LEDGERQ_GRACE_SECONDS": "0.5"}
    stack.register()
    api = stack.api()
    worker = stack.worker(LEDGERQ_WORKER_RELOAD="true", LEDGERQ_WORKER_NAME="mine")
    task_id = submit(api, "wait_for", name="go")
    wait.until((stack.folder / "go.begun").exists, 60, what=worker.log)
    (stack.folder / "notes.txt").write_text("no Python")
    (stack.folder / ".venv").mkdir()
    (stack.folder / ".venv" / "other.py").touch()
    write(module, "new")
    wait.until(lambda: worker.log().count("worker.registered") == 2, 60, what=worker.log)
    (stack.folder / "go").touch()
    assert wait.until(lambda: result(api, task_id), 60, what=worker.log) == "new"
    task = http.request("GET", f"{api.url}/tasks/{task_id}").json()
    assert task["worker_deaths"] == 0
    assert worker.log().count('"worker.reload"') == 1
    assert worker.stop() == 0


def test_a_module_that_cannot_be_imported_at_the_start_is_one_line(stack: Stack) -> None:
    worker = stack.start("worker", "-m", "ledgerq_worker", "run", "--reload", LEDGERQ_TASK_MODULES="absent")
    assert worker.wait() == 2
    [line] = worker.log().splitlines()
    assert line.startswith("ledgerq-worker: ")
