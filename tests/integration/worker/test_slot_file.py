"""Somebody deletes a node's slot file while it works: systemd when a user logs out, or whoever clears folders."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from tests.integration.worker.conftest import Work
    from tests.support.stack import Running

_MODULE = """
import os, time
from celery import shared_task

@shared_task
def waits(path, gate):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not os.path.exists(gate):
        time.sleep(0.01)
    return "done"
"""


def _agents(worker: Running) -> list[int]:
    children = psutil.Process(worker.pid).children()
    return [child.pid for child in children if "ledgerq_worker.node.agent" in child.cmdline()]


def test_a_node_whose_slot_file_is_deleted_goes_on_under_its_id_with_a_new_agent_that_sees_its_slots(work: Work):
    (work.stack.folder / "waiting_tasks.py").write_text(_MODULE)
    worker = work.stack.worker(LEDGERQ_TASK_MODULES="waiting_tasks", LEDGERQ_WORKER_CONCURRENCY="2")
    begun, gate = work.stack.folder / "begun", work.stack.folder / "gate"
    running = work.submit("waiting_tasks.waits", path=str(begun), gate=str(gate))
    wait.until(begun.exists, 30, what=worker.log)
    [registered] = databases.rows(work.database_url, "SELECT id, beat_at FROM worker")
    [file] = Path("/dev/shm").glob(f"ledgerq-node-{worker.pid}-*")
    file.unlink()
    [killed] = _agents(worker)
    os.kill(killed, signal.SIGKILL)
    worker.says("worker.agent.restarted")
    # Only an agent that sees the slots can end it.
    limited = work.submit("waiting_tasks.waits", NewTaskOptions(time_limit=1), path=str(begun), gate="never")
    assert work.ended(limited).error["type"] == "TimeLimitExceeded", worker.log()
    gate.touch()
    row = work.ended(running)
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0), worker.log()
    assert len(begun.read_text().split()) == 2
    [now] = databases.rows(work.database_url, "SELECT id, beat_at FROM worker")
    assert now[0] == registered[0]
    assert now[1] > registered[1]
    assert "worker.slot_file.deleted" in worker.log()
    ledger_checks.assert_sound(work.database_url)
