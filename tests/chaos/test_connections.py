"""What slots hold of PostgreSQL's connections, and what becomes of those to a leader that answers no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support.load import Load
from tests.chaos.support.plant import Plant
from tests.support import databases, http, ledger_checks, wait
from tests.support.urls import one_url

if TYPE_CHECKING:
    from ledgerq_shared.embedded import EmbeddedPostgres
    from tests.chaos.conftest import Scale
    from tests.support.replicated import Replicated
    from tests.support.stack import Stack

pytestmark = pytest.mark.chaos


def sessions(plant: Plant) -> int:
    """How many connections the processes have in which tasks run, and their parent."""
    return int(plant.scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ledgerq-worker%%'"))


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_slots_whose_tasks_run_long_hold_no_connection_and_record_all_that_ends_at_once(
    plant_on_postgres: Plant, postgres: EmbeddedPostgres, pool: str
):
    plant, slots = plant_on_postgres, 6
    worker = plant.worker(slots, LEDGERQ_WORKER_POOL=pool)
    plant.maintenance()
    plant.submit_all("quick", [{}] * 300)
    plant.all_ended()
    assert sessions(plant) <= slots
    most = slots if pool == "prefork" else 1
    wait.until(lambda: 0 < sessions(plant) <= most, 60, what="idle slots keep what the next ticket needs")
    running = plant.submit_all("gated", [{"gate": "all"}] * slots)
    for task_id in running:
        plant.recorded(task_id, "STARTED")
    wait.until(lambda: sessions(plant) == 0, 60, what=lambda: f"none is held: {sessions(plant)}")
    postgres.stop()
    postgres.start()
    plant.open("all")
    assert [plant.ended(task_id).state for task_id in running] == ["SUCCESS"] * slots, worker.log()
    assert [len(plant.journal.of(task_id)) for task_id in running] == [1] * slots
    plant.assert_sound()


def test_a_slot_without_a_connection_reports_and_is_ended_like_any_other(plant: Plant):
    plant.stack.register()
    url = plant.stack.api().url
    plant.worker(slots=3)
    plant.maintenance()
    late, asking = plant.submit("reports_late", gate="late"), plant.submit("asks", gate="never")
    # On a busy machine it takes long until none is held; the slot that the limit replaces has one again.
    limited = plant.submit("gated", NewTaskOptions(time_limit=50), gate="never")
    for task_id in (late, asking, limited):
        plant.recorded(task_id, "STARTED")
    wait.until(lambda: sessions(plant) == 0, 60, what=lambda: f"none is held: {sessions(plant)}")
    plant.open("late")
    assert http.request("POST", f"{url}/tasks/{asking}/cancel", {}).status == 202
    seen = "SELECT progress_status FROM task WHERE id = %s"
    wait.until(lambda: databases.rows(plant.database_url, seen, (late,)) == [("late",)], what="the report is there")
    assert plant.row(late).state == "STARTED"
    assert plant.ended(asking).state == "REVOKED"
    assert (plant.ended(limited, 90).error or {})["type"] == "TimeLimitExceeded"
    plant.open("late.end")
    assert plant.ended(late).state == "SUCCESS"
    assert plant.events(late).count("log") == 1
    plant.assert_sound()


def test_promise_1_a_leader_that_is_frozen_and_replaced_holds_up_neither_submits_nor_results(
    stack: Stack, pair: Replicated, redis_database: str, scale: Scale
):
    [standby] = pair.standbys
    stack.environment["DATABASE_URL"] = one_url(pair.primary.url, standby.url)
    plant = Plant(stack, pair.primary.url, redis_database, scale.lease)
    stack.register()
    plant.maintenance()
    worker = plant.worker(slots=3)
    api = stack.api()
    running = [plant.submit("gated", gate="frozen") for _ in range(2)]
    for task_id in running:
        plant.recorded(task_id, "STARTED")
    with Load(api.url, {"task_type": "chaos_tasks.quick"}, clients=3) as load:
        wait.until(lambda: len(load.accepted) > 50, 60, what="load")
        pair.all_have_it()
        pair.primary.freeze()
        plant.open("frozen")  # their ends meet the frozen leader
        plant.close()
        plant = Plant(stack, standby.promote(), redis_database, scale.lease)
        before = len(load.accepted)
        wait.until(lambda: len(load.accepted) > before + 50, 60, what=lambda: f"submits go on: {load.answers}")
    # The API sends again what only the frozen leader had, when it has hung up and asked the new leader.
    sent = load.accepted | set(running)
    known = "SELECT count(*) FROM task WHERE id = ANY (%s::uuid[])"
    there = [(len(sent),)]
    wait.until(
        lambda: databases.rows(plant.database_url, known, (sorted(sent),)) == there, 60, what="all accepted are there"
    )
    plant.all_ended()
    assert [plant.row(task_id).state for task_id in running] == ["SUCCESS"] * 2, worker.log()
    assert set(load.answers) <= {202, 503}, load.answers
    ledger_checks.assert_all_ended(plant.database_url, sent)
    stack.close()
    plant.close()
