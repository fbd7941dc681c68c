"""Logs that cannot be written: the disk behind them is full."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.support import nodes
from tests.support import wait

if TYPE_CHECKING:
    from ledgerq_shared.embedded import EmbeddedPostgres
    from tests.chaos.support.plant import Plant


def test_services_that_cannot_log_outlive_a_restart_of_postgresql_and_the_death_of_an_agent(
    plant_on_postgres: Plant, postgres: EmbeddedPostgres
):
    plant = plant_on_postgres
    plant.stack.log_device = Path("/dev/full")
    maintenance = plant.maintenance()
    worker = plant.worker(slots=1, LEDGERQ_LEASE_SECONDS="15")
    running = plant.submit("gated", gate="go")
    plant.begun(running)
    late = plant.submit("quick")
    postgres.stop()
    postgres.start()
    killed = nodes.agent_of(worker)
    nodes.kill(killed)
    wait.until(lambda: nodes.agent_of(worker) != killed, 30, what="a new agent")
    beaten = plant.scalar("SELECT max(beat_at) FROM worker")
    wait.until(lambda: plant.scalar("SELECT max(beat_at) FROM worker") > beaten, 30, what="a heartbeat")
    plant.open("go")
    plant.all_ended()
    assert [len(plant.journal.of(task_id)) for task_id in (running, late)] == [1, 1]
    assert worker.alive()
    assert maintenance.alive()
    assert plant.workers() == 1
    plant.assert_sound()
