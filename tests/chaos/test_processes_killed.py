"""Group 1: SIGKILL of pool processes, parents, agents, whole nodes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.support import nodes
from tests.chaos.support.histogram import histogram
from tests.support import wait

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos


def test_promise_3_a_killed_pool_childs_task_runs_again_and_its_neighbours_do_not(plant: Plant, scale: Scale):
    plant.maintenance()
    worker = plant.worker(slots=2)
    neighbour = plant.submit("gated", gate="neighbour")
    plant.begun(neighbour)
    took = []
    for number in range(scale.of(3, 20)):
        task_id = plant.submit("gated_once", gate=f"never-{number}")
        plant.begun(task_id)
        killed_at = time.monotonic()
        nodes.kill(plant.journal.of(task_id)[0].pid)
        took.append(plant.begun(task_id, times=2) - killed_at)
        row = plant.ended(task_id)
        assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 2, 1)
    plant.open("neighbour")
    assert plant.ended(neighbour).attempt == 1
    plant.assert_sound()
    print(histogram("killed pool child -> its task runs again", took, promised=2))
    assert max(took) < 10, took
    assert worker.alive()


def test_promise_3_tasks_of_a_killed_parent_run_again_while_its_node_is_cleared_away(plant: Plant, scale: Scale):
    plant.maintenance()
    took = []
    victim = plant.worker(slots=2)
    for number in range(scale.of(1, 5)):
        ids = [plant.submit("gated_once", gate=f"never-{number}-{slot}") for slot in range(2)]
        for task_id in ids:
            plant.begun(task_id)
        left = nodes.all_of(victim)
        spare = plant.worker(slots=2)  # after the victim has begun both
        killed_at = time.monotonic()
        victim.kill()
        took += [plant.begun(task_id, times=2) - killed_at for task_id in ids]
        assert {plant.ended(task_id).attempt for task_id in ids} == {2}
        wait.until(lambda left=left: not any(map(nodes.is_alive, left)), 30, what="the dead node's processes")
        victim = spare
    plant.assert_sound()
    print(histogram("killed worker parent -> its tasks run again", took, promised=15))
    assert max(took) < 30, took


def test_promise_3_tasks_of_a_lost_node_run_again_when_its_lease_is_over(plant: Plant, scale: Scale):
    plant.maintenance()
    took = []
    victim = plant.worker(slots=2)
    for number in range(scale.of(1, 5)):
        ids = [plant.submit("gated_once", gate=f"never-{number}-{slot}") for slot in range(2)]
        for task_id in ids:
            plant.recorded(task_id, "STARTED")
        spare = plant.worker(slots=2)  # after the victim has begun both
        killed_at = time.monotonic()
        nodes.kill(*nodes.all_of(victim))
        took += [plant.begun(task_id, times=2, timeout=60) - killed_at for task_id in ids]
        assert {plant.ended(task_id).attempt for task_id in ids} == {2}
        victim = spare
    plant.assert_sound()
    print(histogram("lost node (parent, agent and pool) -> its tasks run again", took, promised=15))
    assert max(took) < scale.lease + 30, took


def test_promise_3_nothing_is_started_twice_while_a_killed_agent_is_replaced(plant: Plant, scale: Scale):
    plant.maintenance()
    # The next agent is there before the node is declared dead, however busy the machine.
    worker = plant.worker(slots=2, LEDGERQ_LEASE_SECONDS="15")
    plant.worker(slots=2)
    ids = [plant.submit("gated", gate="go") for _ in range(4)]
    for task_id in ids:
        plant.begun(task_id)
    for _ in range(scale.of(2, 5)):
        killed = nodes.agent_of(worker)
        nodes.kill(killed)
        wait.until(lambda killed=killed: nodes.agent_of(worker) != killed, 30, what="a new agent")
        seen = plant.scalar("SELECT max(beat_at) FROM worker")
        wait.until(lambda seen=seen: plant.scalar("SELECT min(beat_at) FROM worker") > seen, 30, what="two heartbeats")
    plant.open("go")
    assert {(plant.ended(task_id).attempt, plant.row(task_id).worker_deaths) for task_id in ids} == {(1, 0)}
    assert plant.workers() == 2, "the new agent goes on under the old id"
    plant.assert_sound()


def test_promise_3_a_pool_child_that_dies_while_there_is_no_agent_is_not_forgotten(plant: Plant):
    plant.maintenance()
    # The next agent is there before the node is declared dead, however busy the machine.
    worker = plant.worker(slots=1, LEDGERQ_LEASE_SECONDS="15")
    task_id = plant.submit("gated_once", gate="never")
    plant.begun(task_id)
    nodes.kill(nodes.agent_of(worker), plant.journal.of(task_id)[0].pid)
    row = plant.ended(task_id)
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 2, 1)
    assert plant.workers() == 1
    plant.assert_sound()


def test_promise_3_a_batch_neighbour_of_a_crash_is_not_charged(plant: Plant):
    plant.maintenance()
    plant.worker(slots=1)
    ids = plant.submit_all("quick", [{"number": number} for number in range(400)])
    plant.all_ended()  # quick tasks are claimed by the hundred now
    first = plant.submit_all("quick", [{"number": number} for number in range(20)])
    killer = plant.submit("dies", how="sigkill")
    others = plant.submit_all("quick", [{"number": number} for number in range(100)])
    plant.all_ended()
    assert plant.row(killer).error["type"] == "TaskQuarantined"
    assert {plant.row(task_id).worker_deaths for task_id in [*ids, *first, *others]} == {0}
    plant.assert_sound()
