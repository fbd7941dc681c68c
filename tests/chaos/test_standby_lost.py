"""The only synchronous standby is away: every COMMIT waits, and the node lives."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.chaos.support.plant import Plant
from tests.support import wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.conftest import Scale
    from tests.support.replicated import Replicated
    from tests.support.stack import Stack

pytestmark = pytest.mark.chaos


@pytest.fixture
def plant(stack: Stack, pair: Replicated, redis_database: str, scale: Scale) -> Iterator[Plant]:
    """A plant whose ledger has a standby."""
    stack.environment["DATABASE_URL"] = pair.primary.url
    made = Plant(stack, pair.primary.url, redis_database, scale.lease)
    yield made
    made.close()
    stack.close()


def test_promise_3_while_commits_wait_for_a_standby_dead_processes_are_noticed_and_no_lease_is_lost(
    plant: Plant, pair: Replicated
):
    plant.maintenance()
    plant.worker(slots=2)
    killed, neighbour = (plant.submit("gated", gate=gate) for gate in ("one", "two"))
    for task_id in (killed, neighbour):
        plant.recorded(task_id, "STARTED")
    pair.primary.demand("*")
    pair.standbys[0].follow(None)
    for times, task_id in enumerate((killed, neighbour)):
        os.kill(plant.journal.of(task_id)[0].pid, signal.SIGKILL)
        wait.until(lambda task_id=task_id: plant.row(task_id).worker_deaths == 1, 30, what=f"death {times + 1}")
    for _ in range(10):
        seen = plant.scalar("SELECT beat_at FROM worker")
        wait.until(lambda seen=seen: plant.scalar("SELECT beat_at FROM worker") > seen, 30, what="a heartbeat")
    pair.standbys[0].follow(pair.primary)
    plant.open("one")
    plant.open("two")
    plant.all_ended()
    assert (plant.workers(), plant.live_workers()) == (1, 1)
    plant.assert_sound()
