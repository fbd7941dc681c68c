"""Group 5: tasks that harm their process, or end in ways that nothing can keep. Their neighbours go unharmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.support import databases, wait

if TYPE_CHECKING:
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

_DEATHS = ("sigkill", "segfault", "abort", "exit 0", "exit 1")
#: What a task may raise, with the type that the ledger names.
_RAISED = {
    "unpicklable": "_Unpicklable",
    "unreadable": "_Unreadable",
    "huge": "ValueError",
    "nul": "ValueError",
    "base": "_NotAnException",
    "exit": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "generator exit": "GeneratorExit",
    "recursion": "RecursionError",
    "not instantiable": "Odd",
}
_NOT_KEEPABLE = ("nan", "infinity", "bytes", "10 MiB", "deep", "itself", "object", "odd keys", "generator")
#: What JSON can hold after all.
_KEEPABLE = ("deep enough", "huge integer")
#: What JSON has no word for; Celery's encoder decides.
_EITHER = ("set", "surrogates")


def test_promise_4_a_task_that_kills_its_process_is_quarantined_and_its_neighbours_are_unharmed(plant: Plant):
    plant.maintenance()
    worker = plant.worker(slots=2)
    before = plant.submit_all("quick", [{"number": number} for number in range(50)])
    killers = [plant.submit("dies", how=how) for how in _DEATHS]
    after = plant.submit_all("quick", [{"number": number} for number in range(50)])
    plant.all_ended()
    for how, task_id in zip(_DEATHS, killers, strict=True):
        row = plant.row(task_id)
        assert (row.state, row.attempt, row.worker_deaths) == ("FAILURE", 3, 3), how
        assert row.error
        assert row.error["type"] == "TaskQuarantined"
        assert len(plant.journal.of(task_id)) == 3
    assert {(row.state, row.attempt, row.worker_deaths) for row in map(plant.row, [*before, *after])} == {
        ("SUCCESS", 1, 0)
    }
    assert worker.alive()
    plant.assert_sound()


def test_on_threads_what_has_ended_is_recorded_while_a_suspect_runs_alone_and_nothing_is_held_back_for_it(plant: Plant):
    plant.maintenance()
    plant.worker(slots=3, LEDGERQ_WORKER_POOL="threads", LEDGERQ_CLAIM_BUDGET="2")
    plant.submit_all("slow", [{"seconds": 0.02}] * 200)  # claims grow
    plant.all_ended()
    plant.submit_all("slow", [{"seconds": 0.02}] * 300)
    wait.until(lambda: plant.scalar("SELECT max(cardinality(task_ids)) FROM claim") or 0, 30)
    suspect = plant.submit("gated", NewTaskOptions(countdown=3600), gate="gate")
    databases.execute(plant.database_url, "UPDATE held SET alone = true, priority = 9, until = now()")
    plant.begun(suspect)

    def unrecorded() -> set[str]:
        """Which executions have ended by their own account and not by the ledger's."""
        ended = {task_id for task_id, runs in plant.journal.runs().items() if runs[-1].ended_at}
        rows = databases.rows(plant.database_url, "SELECT id::text FROM task WHERE completed_at IS NULL")
        return ended & {task_id for (task_id,) in rows}

    wait.until(lambda: not unrecorded(), 10, what=lambda: f"{len(unrecorded())} ended tasks are recorded")
    claims = "SELECT c.task_ids::text[] FROM claim c"
    wait.until(
        lambda: databases.rows(plant.database_url, claims) == [([suspect],)], 10, what="only the suspect is held"
    )
    assert plant.row(suspect).state != "SUCCESS"
    plant.open("gate")
    plant.all_ended()
    assert {plant.row(task_id).attempt for task_id in plant.accepted} == {1}
    plant.assert_sound()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_promise_4_of_a_node_that_dies_as_a_whole_again_and_again_the_killer_alone_is_quarantined(
    plant: Plant, pool: str
):
    plant.maintenance()
    worker = plant.worker(slots=3, LEDGERQ_WORKER_POOL=pool)
    neighbours = [plant.submit("gated_once", gate=f"never-{number}") for number in range(2)]
    killer = plant.submit("kills_the_node", gate="all have begun")
    for task_id in (*neighbours, killer):
        plant.recorded(task_id, "STARTED")
    plant.open("all have begun")
    others: list[str] = []
    for life in (1, 2, 3):
        wait.until(lambda worker=worker: not worker.alive(), 60, what=worker.log)
        plant.begun(killer, times=life)
        others += plant.submit_all("quick", [{"number": number} for number in range(3)])
        wait.until(lambda: not plant.scalar("SELECT count(*) FROM claim"), 60, what="recovery")
        worker = plant.worker(slots=3, LEDGERQ_WORKER_POOL=pool)
    plant.all_ended()
    row = plant.row(killer)
    assert (row.state, row.attempt, row.worker_deaths) == ("FAILURE", 3, 3)
    assert row.error
    assert row.error["type"] == "TaskQuarantined"
    assert {(row.state, row.attempt, row.worker_deaths) for row in map(plant.row, neighbours)} == {("SUCCESS", 2, 1)}
    assert {(row.state, row.attempt, row.worker_deaths) for row in map(plant.row, others)} == {("SUCCESS", 1, 0)}
    plant.assert_sound()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_an_end_that_nothing_can_keep_is_the_failure_of_that_task_alone(plant: Plant, pool: str):
    plant.maintenance()
    plant.submit_all("quick", [{"number": number} for number in range(100)])  # claims grow
    raised = {what: plant.submit("raises", what=what) for what in _RAISED}
    returned = {what: plant.submit("returns", what=what) for what in (*_NOT_KEEPABLE, *_KEEPABLE, *_EITHER)}
    neighbours = plant.submit_all("quick", [{"number": number} for number in range(100)])
    worker = plant.worker(slots=2, LEDGERQ_WORKER_POOL=pool)
    plant.all_ended()
    rows = {what: plant.row(task_id) for what, task_id in raised.items()}
    assert {what: (row.error or {}).get("type") for what, row in rows.items()} == _RAISED
    assert {(row.state, row.attempt) for row in rows.values()} == {("FAILURE", 1)}
    assert max(len(str(row.error)) for row in rows.values()) < 1_000_000
    states = {what: plant.row(task_id).state for what, task_id in returned.items()}
    assert {states[what] for what in _NOT_KEEPABLE} == {"FAILURE"}, states
    assert {states[what] for what in _KEEPABLE} == {"SUCCESS"}, states
    assert all(plant.row(task_id).attempt == 1 for task_id in returned.values())
    assert {(row.state, row.attempt) for row in map(plant.row, neighbours)} == {("SUCCESS", 1)}
    assert worker.alive()
    plant.assert_sound()


def test_promise_4_a_memory_hog_and_a_task_that_ignores_its_soft_limit_fail_alone(plant: Plant):
    plant.maintenance()
    worker = plant.worker(slots=2)
    hog = plant.submit("eats_memory")
    stubborn = plant.submit("ignores_the_soft_limit")
    neighbours = plant.submit_all("slow", [{"seconds": 0.05}] * 40)
    plant.all_ended()
    errors = {name: plant.row(task_id).error or {} for name, task_id in (("hog", hog), ("stubborn", stubborn))}
    assert errors["hog"].get("type") == "MemoryError", errors
    assert errors["stubborn"].get("type") == "TimeLimitExceeded", errors
    assert (plant.row(stubborn).attempt, plant.row(stubborn).worker_deaths) == (1, 0)
    assert {(row.state, row.attempt) for row in map(plant.row, neighbours)} == {("SUCCESS", 1)}
    assert worker.alive()
    plant.assert_sound()
