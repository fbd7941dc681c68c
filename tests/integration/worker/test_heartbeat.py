"""The heartbeat file: young while a process is at work, whatever the stores do; old when it is not."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from ledgerq_worker.heartbeat import Heartbeat
from tests.support import wait
from tests.support.proxy import SilentProxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.stack import Running, Stack

#: Well above the second between two beats, in seconds.
OLD = 4.0


def age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def beats_again(path: Path, times: int = 3) -> None:
    """Wait until the file has been touched so many times more."""
    for _ in range(times):
        before = path.stat().st_mtime_ns
        wait.until(lambda before=before: path.stat().st_mtime_ns > before, 30, what="a beat")  # type: ignore[misc]


def grows_old(path: Path) -> None:
    wait.until(lambda: age(path) > OLD, 30, what=lambda: f"no more beats; the last was {age(path):.1f} s ago")


def start_worker(stack: Stack, **environment: str) -> Running:
    return stack.worker(LEDGERQ_WORKER_CONCURRENCY="1", **environment)


def start_maintenance(stack: Stack, **environment: str) -> Running:
    return stack.maintenance(**environment)


@pytest.fixture
def beating(stack: Stack) -> Callable[..., tuple[Running, Path]]:
    """Starts a process with a heartbeat and waits for the first beats."""

    def start(begin: Callable[..., Running], **environment: str) -> tuple[Running, Path]:
        path = stack.folder / "heartbeat"
        running = begin(stack, LEDGERQ_HEARTBEAT_FILE=str(path), **environment)
        wait.until(path.exists, 30, what=running.log)
        return running, path

    return start


def test_a_worker_beats_until_its_parent_stands_still_and_again_when_it_goes_on(beating):
    worker, path = beating(start_worker)
    worker.says("worker.registered")
    beats_again(path)
    worker.send(signal.SIGSTOP)
    grows_old(path)
    worker.send(signal.SIGCONT)
    beats_again(path)


def test_a_worker_whose_parent_was_killed_beats_no_more(beating):
    worker, path = beating(start_worker)
    worker.says("worker.registered")
    worker.kill()
    wait.until(lambda: worker.descendants() == [], 30, what="the agent's end")
    grows_old(path)


@pytest.mark.parametrize("start", [start_worker, start_maintenance])
def test_a_store_that_says_nothing_more_does_not_stop_the_heartbeat(beating, stack: Stack, start):
    with SilentProxy(stack.environment["DATABASE_URL"]) as proxy:
        running, path = beating(start, DATABASE_URL=proxy.url)
        running.says("worker.registered" if start is start_worker else "maintenance.leads")
        proxy.silence()
        beats_again(path, times=6)
        assert running.alive()


def test_maintenance_that_stands_by_beats_too(beating, stack: Stack):
    leader = stack.maintenance()
    leader.says("maintenance.leads")
    _, path = beating(start_maintenance)
    beats_again(path)


def test_a_process_that_is_not_well_does_not_beat_until_it_is(workspace: Path):
    well, path = [True], workspace / "heartbeat"
    Heartbeat(path, lambda: well[0]).start()
    wait.until(path.exists, 30)
    well[0] = False
    grows_old(path)
    well[0] = True
    beats_again(path, times=1)
    well[0] = False


@pytest.mark.parametrize("start", [start_worker, start_maintenance])
def test_a_heartbeat_file_that_cannot_be_written_is_one_line_and_exit_code_2(stack: Stack, start):
    running = start(stack, LEDGERQ_HEARTBEAT_FILE="/nowhere/at-all/heartbeat")
    assert running.wait() == 2
    assert running.log().splitlines() == [
        "ledgerq-worker: LEDGERQ_HEARTBEAT_FILE=/nowhere/at-all/heartbeat cannot be written: No such file or directory"
    ]
