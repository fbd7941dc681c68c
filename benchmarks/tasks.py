"""LedgerQ's tasks under measurement; laid out as a user's module."""

import os
import time
from pathlib import Path

from celery import shared_task

from benchmarks import counting
from clients.celery.base_tasks import DatabaseAwareTask


@shared_task(base=DatabaseAwareTask, ignore_result=True)
def noop() -> None:
    counting.hit()


@shared_task(base=DatabaseAwareTask)
def noop_result() -> None:
    counting.hit()


@shared_task(base=DatabaseAwareTask, ignore_result=True)
def plug(folder: str) -> None:
    """Keep a slot busy until the benchmark lets it go."""
    (Path(folder) / f"plugged-{os.getpid()}").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(0.002)


@shared_task(base=DatabaseAwareTask, ignore_result=True)
def nap(seconds: float) -> None:
    """Take a while."""
    time.sleep(seconds)


@shared_task(base=DatabaseAwareTask)
def echo(text: str) -> dict[str, int]:
    """Something to keep: parameters and a result."""
    return {"length": len(text)}
