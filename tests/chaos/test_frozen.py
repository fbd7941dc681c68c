"""Group 4: a node that stands still loses its lease; one whose task holds the GIL does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support import nodes
from tests.chaos.support.plant import MODULE
from tests.support import ledger_checks, wait

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

#: What Celery keeps with a task that `next_step` follows.
_CHAINED = json.dumps(
    {"chain": [{"task": f"{MODULE}.next_step", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}]}
)


def test_promise_2_a_woken_zombie_changes_nothing_and_sends_nothing_on(plant: Plant):
    plant.maintenance()
    zombie = plant.worker(slots=1)
    task_id = plant.submit("gated_once", NewTaskOptions(celery=_CHAINED), gate="go")
    plant.recorded(task_id, "STARTED")
    frozen = nodes.freeze(zombie)
    try:
        plant.worker(slots=1)
        row = plant.ended(task_id)
        assert (row.state, row.attempt, row.worker_deaths, row.result) == ("SUCCESS", 2, 1, "later")
        wait.until(lambda: plant.scalar("SELECT count(*) FROM task WHERE completed_at IS NOT NULL") == 2, 30)
    finally:
        plant.open("go")
        nodes.thaw(frozen)
    wait.until(lambda: "late_write_refused" in plant.events(task_id), 30, what=zombie.log)
    wait.until(lambda: plant.live_workers() == 2, 30, what="the zombie registers anew")
    assert plant.row(task_id).result == "later", "the superseded run's result is not there"
    assert plant.scalar("SELECT count(*) FROM task") == 2, "one chain step, not two"
    # Its two runs did overlap: nobody can stop a frozen process from waking. The ledger is what must be sound.
    ledger_checks.assert_all_ended(plant.database_url, plant.scalar("SELECT array_agg(id::text) FROM task"))


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_promise_3_a_task_that_holds_the_gil_is_not_started_twice(plant: Plant, scale: Scale, pool: str):
    plant.maintenance()
    worker = plant.worker(slots=1, LEDGERQ_WORKER_POOL=pool)
    seconds = 30 if scale.is_long else 6
    task_id = plant.submit("holds_the_gil", seconds=seconds)
    plant.begun(task_id)
    plant.worker(slots=1)
    row = plant.ended(task_id, 90)
    assert (row.state, row.attempt, row.worker_deaths, row.result) == ("SUCCESS", 1, 0, seconds)
    assert len(plant.journal.of(task_id)) == 1
    assert plant.workers() == 2, "nobody was declared dead"
    assert worker.alive()
    plant.assert_sound()
