"""Group 1: pool processes that take long to start, because they load a model, for example."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.support import nodes
from tests.support import wait

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.support.plant import Plant
    from tests.support.stack import Running

pytestmark = pytest.mark.chaos

#: A worker that could hear and takes nothing is taken for deaf within so many seconds. This time is what is tested, so
#: the test waits for it.
_FOUND_DEAF = 10.0

_LOADS = """
import os, pathlib, time
from celery import signals

@signals.worker_process_init.connect
def load(**_):
    with open("loads.log", "a") as log:
        log.write(f"{os.getpid()}\\n")
    while pathlib.Path("loading").exists():
        time.sleep(0.05)
"""


@pytest.fixture
def loading(plant: Plant) -> Path:
    """While this file exists, a new pool process goes on loading."""
    (plant.folder / "loads.py").write_text(_LOADS)
    plant.stack.environment.update(LEDGERQ_TASK_MODULES="chaos_tasks,loads")
    return plant.folder / "loading"


def _loads(plant: Plant) -> list[int]:
    log = plant.folder / "loads.log"
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def _wait_while_alive(worker: Running, seconds: float) -> None:
    until = time.monotonic() + seconds
    wait.until(lambda: time.monotonic() > until or not worker.alive(), seconds + 30)
    assert worker.alive(), worker.log()


def test_processes_that_take_long_to_begin_are_left_to_it(plant: Plant, loading: Path):
    """The node was found deaf and ended, and so did its successor: no task ever ran."""
    loading.touch()
    plant.maintenance()
    worker = plant.worker(slots=2)
    task_id = plant.submit("quick")
    _wait_while_alive(worker, _FOUND_DEAF)
    loading.unlink()
    assert plant.ended(task_id).state == "SUCCESS"
    assert len(_loads(plant)) == 2
    assert "worker.deaf" not in worker.log()
    plant.assert_sound()


def test_a_slot_that_is_not_ready_is_not_deaf_and_cuts_no_neighbours_task_off(plant: Plant, loading: Path):
    """The node was found deaf for the slot whose process was still loading, and ended with the task of the other one; and
    Celery kills a process that has not begun within 4 s, and its successor, and so on.
    """
    plant.maintenance()
    worker = plant.worker(slots=2, LEDGERQ_GRACE_SECONDS="1")
    running = plant.submit("gated_once", gate="go")
    plant.begun(running)
    wait.until(lambda: len(_loads(plant)) == 2, 30)
    loading.touch()
    [busy] = {run.pid for run in plant.journal.of(running)}
    [idle] = set(_loads(plant)) - {busy}
    nodes.kill(idle)
    wait.until(lambda: len(_loads(plant)) == 3, 30, what=worker.log)
    waiting = plant.submit("quick")
    _wait_while_alive(worker, _FOUND_DEAF)
    loading.unlink()
    assert plant.ended(waiting).state == "SUCCESS"
    plant.open("go")
    assert plant.ended(running).attempt == 1
    plant.assert_sound()
    assert len(_loads(plant)) == 3
    assert "worker.deaf" not in worker.log()
