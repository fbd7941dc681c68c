"""Group 4: a node that stands still loses its lease; one whose task holds the GIL does not."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support import long_form, nodes
from tests.chaos.support.plant import MODULE
from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

#: What Celery keeps with a task that `next_step` follows.
_CHAINED = json.dumps(
    {"chain": [{"task": f"{MODULE}.next_step", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}]}
)
#: Celery's messages are acknowledged before they run unless their application says otherwise, and then do not run twice.
_RERUN = {"LEDGERQ_ON_WORKER_LOST": "rerun"}


def test_promise_2_a_woken_zombie_changes_nothing_and_sends_nothing_on(plant: Plant):
    plant.maintenance()
    zombie = plant.worker(slots=1, **_RERUN)
    task_id = plant.submit("gated_once", NewTaskOptions(celery=_CHAINED), gate="go")
    plant.recorded(task_id, "STARTED")
    frozen = nodes.freeze(zombie)
    try:
        plant.worker(slots=1, **_RERUN)
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


@pytest.mark.parametrize("pool", ["prefork", "threads", pytest.param("solo", marks=long_form)])
def test_promise_2_a_woken_zombie_begins_nothing_more_of_what_it_had_claimed(plant: Plant, pool: str):
    """Otherwise its effects on the world outside would happen beside the new owner's run."""
    plant.maintenance()
    zombie = plant.worker(slots=1, LEDGERQ_WORKER_POOL=pool)
    for _ in range(4):  # it learns that these are quick, and claims several at once
        plant.submit_all("freezes_its_node_once", [{}] * 8)
        plant.all_ended()
    first, *others = plant.submit_all("freezes_its_node_once", [{"gate": "frozen"}, *[{}] * 7])
    wait.until((plant.folder / "frozen").exists, 30, what=zombie.log)
    claimed = plant.scalar("SELECT cardinality(task_ids) FROM claim")
    assert claimed > 1, "more than what froze it"
    plant.worker(slots=1)
    plant.all_ended()
    nodes.thaw(nodes.all_of(zombie))
    wait.until(lambda: plant.live_workers() == 2, 30, what="the zombie registers anew")
    wait.until(lambda: "late_write_refused" in plant.events(first), 30, what="its late end is refused")
    plant.ended(plant.submit("quick"))
    wait.until(lambda: not plant.scalar("SELECT count(*) FROM claim"), 30, what=zombie.log)
    assert [len(plant.journal.of(task_id)) for task_id in others] == [1] * 7
    rows = [plant.row(task_id) for task_id in others]
    assert {(row.state, row.attempt, row.worker_deaths) for row in rows} == {("SUCCESS", 1, 0)}
    ledger_checks.assert_all_ended(plant.database_url, plant.accepted)


@pytest.mark.parametrize(
    "whole", [pytest.param(True, id="frozen node"), pytest.param(False, id="frozen agent", marks=long_form)]
)
def test_promise_2_callbacks_errbacks_and_chord_parts_of_a_superseded_run_are_not_sent_a_second_time(
    plant: Plant, whole: bool
):
    """Frozen as a whole, or only unable to renew its lease: its tasks run elsewhere, and both runs come to their end."""
    plant.maintenance()
    first = plant.worker(slots=3, **_RERUN)
    _send_with_followers(plant)
    wait.until(lambda: plant.scalar("SELECT count(*) FROM task WHERE state = 'STARTED'") == 3, 30, what=first.log)
    frozen = nodes.freeze(first) if whole else [nodes.agent_of(first)]
    nodes.send(frozen[0], signal.SIGSTOP)
    try:
        plant.worker(slots=3, **_RERUN)
        wait.until(lambda: _ends(plant) == _ENDS, 60, what=lambda: f"{_ends(plant)}")
    finally:
        for gate in ("linked", "failing", "part"):
            plant.open(gate)
        if whole:
            nodes.thaw(frozen)
    refused = "SELECT count(DISTINCT task_id) FROM task_event WHERE kind = 'late_write_refused'"
    wait.until(lambda: plant.scalar(refused) == 3, 30, what=first.log)
    nodes.thaw(frozen)
    wait.until(lambda: plant.live_workers() == 2, 30, what="the first node registers anew")
    last = plant.submit("quick")
    plant.ended(last)
    wait.until(lambda: not plant.scalar("SELECT count(*) FROM outbox"), 30, what="all has left")
    plant.all_ended()
    assert _ends(plant) == {**_ENDS, "quick": [("SUCCESS", 1), ("SUCCESS", 1)]}
    assert [row.result for row in map(plant.row, _ids(plant, "collects"))] == [["later", 7]]
    ledger_checks.assert_all_ended(plant.database_url, plant.scalar("SELECT array_agg(id::text) FROM task"))


#: Task types, how their tasks end, and the number of attempts: a task that was frozen in its first attempt has a second
#: one.
_ENDS = {
    "collects": [("SUCCESS", 1)],
    "fails_once_gated": [("FAILURE", 2)],
    "gated_once": [("SUCCESS", 2), ("SUCCESS", 2)],
    "hears_of_a_failure": [("SUCCESS", 1)],
    "next_step": [("SUCCESS", 1)],
    "quick": [("SUCCESS", 1)],
}


_PRODUCER = """
import sys
from celery import Celery, chord
app = Celery("producer", broker=sys.argv[1], backend=sys.argv[1])
app.conf.task_default_queue = "default"
def task(name, *args):
    return app.signature(f"chaos_tasks.{name}", args)
task("gated_once", "linked").apply_async(link=task("next_step"))
task("fails_once_gated", "failing").apply_async(link_error=task("hears_of_a_failure"))
chord([task("gated_once", "part"), task("quick", 7)])(task("collects"))
"""


def _send_with_followers(plant: Plant) -> None:
    """As Celery's own producers do it: a callback, an errback, and a chord of two parts."""
    plant.stack.run("-c", _PRODUCER, plant.redis_url)


def _ends(plant: Plant) -> dict[str, list[tuple[object, ...]]]:
    found: dict[str, list[tuple[object, ...]]] = {}
    for name, *end in databases.rows(
        plant.database_url,
        "SELECT split_part(task_type, '.', 2), state, attempt FROM task WHERE completed_at IS NOT NULL ORDER BY 1, 2, 3",
    ):
        found.setdefault(str(name), []).append(tuple(end))
    return found


def _ids(plant: Plant, name: str) -> list[str]:
    sql = "SELECT id::text FROM task WHERE task_type = %s"
    return [str(task_id) for (task_id,) in databases.rows(plant.database_url, sql, (f"{MODULE}.{name}",))]


@pytest.mark.parametrize("pool", ["prefork", "threads", pytest.param("solo", marks=long_form)])
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
