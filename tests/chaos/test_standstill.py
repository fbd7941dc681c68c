"""A slot that does nothing it should, although its process lives, is replaced, and what it held goes back uncharged."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.chaos.support import long_form, nodes
from tests.support import wait

if TYPE_CHECKING:
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos


def test_promise_3_a_pool_process_that_somebody_has_stopped_is_replaced_and_nobody_is_charged(plant: Plant):
    """If the whole node stood still, its lease would be over; tasks must not wait longer for one process of it."""
    plant.maintenance()
    worker = plant.worker(slots=2)
    stands, neighbour = plant.submit("gated_once", gate="never"), plant.submit("gated", gate="go")
    plant.begun(stands)
    plant.begun(neighbour)
    stopped = plant.journal.of(stands)[0].pid
    nodes.send(stopped, signal.SIGSTOP)
    row = plant.ended(stands)
    assert (row.state, row.attempt, row.worker_deaths, row.result) == ("SUCCESS", 2, 0, "later")
    assert not nodes.is_alive(stopped)
    assert "worker.slot.stuck" in worker.log()
    plant.open("go")
    row = plant.ended(neighbour)
    assert (row.state, row.attempt, row.worker_deaths) == ("SUCCESS", 1, 0)
    assert plant.workers() == 1, "its node lives on"
    plant.assert_sound()


def test_an_idle_pool_process_that_somebody_has_stopped_is_replaced(plant: Plant):
    plant.maintenance()
    worker = plant.worker(slots=1)
    plant.ended(plant.submit("quick"))
    [stopped] = nodes.pool_of(worker)
    wait.until(lambda: not plant.scalar("SELECT count(*) FROM claim"), 30)
    nodes.send(stopped, signal.SIGSTOP)
    row = plant.ended(plant.submit("quick", number=7))
    assert (row.attempt, row.worker_deaths, row.result) == (1, 0, 7)
    assert not nodes.is_alive(stopped)
    plant.assert_sound()


@long_form
def test_an_idle_pool_process_that_takes_no_ticket_is_replaced(plant: Plant):
    """A thread that a task has left behind never lets go of the GIL; no signal has stopped it, and it runs no task."""
    plant.maintenance()
    worker = plant.worker(slots=1)
    plant.ended(plant.submit("leaves_a_thread_that_keeps_the_gil"))
    [before] = nodes.pool_of(worker)
    wait.until((plant.folder / "kept").exists, 30)
    row = plant.ended(plant.submit("quick", number=7), 120)
    assert (row.attempt, row.worker_deaths, row.result) == (1, 0, 7)
    assert not nodes.is_alive(before)
    assert "worker.slot.stuck" in worker.log()
    plant.assert_sound()
