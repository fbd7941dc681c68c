"""The ledger goes back in time under a node: claims are there again that its slots are done with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.support.plant import Plant
from tests.support import wait
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.conftest import Scale
    from tests.support.replicated import Replicated
    from tests.support.stack import Stack

pytestmark = pytest.mark.chaos


@pytest.fixture
def way(pair: Replicated) -> Iterator[Proxy]:
    """The address at which everybody reaches the present primary."""
    with Proxy(pair.primary.url) as made:
        yield made


@pytest.fixture
def plant(stack: Stack, way: Proxy, redis_database: str, scale: Scale) -> Iterator[Plant]:
    """A plant whose ledger may be replaced."""
    stack.environment["DATABASE_URL"] = way.url
    made = Plant(stack, way.url, redis_database, scale.lease)
    yield made
    made.close()
    stack.close()


@pytest.mark.parametrize("is_busy_again", [False, True])
def test_promise_1_claims_that_a_failover_brings_back_are_returned_by_their_node_and_what_runs_is_left_alone(
    plant: Plant, pair: Replicated, way: Proxy, is_busy_again: bool
):
    [standby] = pair.standbys
    plant.worker(slots=2)
    forgotten, running = (plant.submit("gated", gate=gate) for gate in ("one", "two"))
    for task_id in (forgotten, running):
        plant.recorded(task_id, "STARTED")
    pair.all_have_it()
    standby.follow(None)
    plant.open("one")
    plant.ended(forgotten)
    if is_busy_again:
        lost = plant.submit("gated", gate="three")
        plant.recorded(lost, "STARTED")
        plant.accepted.remove(lost)
    way.turn_to(None)
    pair.primary.kill()
    standby.promote()
    way.turn_to(standby.url)
    assert plant.row(forgotten).state == "STARTED"
    wait.until(
        lambda: "recovered" in plant.events(forgotten), 60, what=lambda: f"a claim is returned; {plant.stack.logs()}"
    )
    plant.open("three")
    assert plant.ended(forgotten).worker_deaths == 0
    plant.open("two")
    plant.all_ended()
    assert [len(plant.journal.of(task_id)) for task_id in (forgotten, running)] == [2, 1]
    assert (plant.workers(), plant.scalar("SELECT count(*) FROM claim")) == (1, 0)
    plant.assert_sound()
