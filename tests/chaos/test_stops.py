"""Group 6: SIGTERM in the middle of everything, and rolling restarts under load."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.support.load import Load
from tests.support import databases, wait

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos


def test_promise_2_sigterm_in_the_middle_of_everything_loses_and_repeats_nothing(plant: Plant, scale: Scale):
    """A warm end charges no task: tasks that had not begun are handed back, those that had begun end; nothing runs
    twice.
    """
    dice = random.Random(scale.seed)
    print(f"seed {scale.seed}")
    plant.maintenance()
    for number in range(scale.of(2, 20)):
        plant.submit_all("quick", [{"number": one} for one in range(300)])
        plant.submit_all("slow", [{"seconds": 0.05}] * 6)
        worker = plant.worker(slots=2)
        until = time.monotonic() + dice.uniform(0, 0.5)
        wait.until(lambda until=until: time.monotonic() > until, interval=0.002)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0, number
        assert plant.scalar("SELECT count(*) FROM claim") == 0
    plant.worker(slots=2)
    plant.all_ended()
    assert plant.scalar("SELECT max(attempt) FROM task") == 1
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    plant.assert_sound()


def test_promise_2_sigterm_hands_back_at_once_what_a_worker_has_claimed_and_not_begun(plant: Plant):
    """Otherwise it would first work off its claim, which may take long when tasks are slower than they used to be."""
    plant.maintenance()
    worker = plant.worker(slots=1, LEDGERQ_CLAIM_BUDGET="20")
    plant.submit_all("slow", [{"seconds": 0}] * 400)
    plant.all_ended()  # such tasks are claimed by the dozen now
    slower = plant.submit_all("slow", [{"seconds": 0.05}] * 200)

    def under_way() -> list[str] | None:
        """A claim of many, a slower task of which has begun."""
        claimed = plant.scalar("SELECT array_agg(id::text) FROM claim, unnest(task_ids) AS id") or []
        return claimed if len(claimed) > 20 and plant.journal.runs().keys() & set(slower) & set(claimed) else None

    claimed = wait.until(under_way, what="a slower task")
    assert claimed
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    begun = plant.journal.runs().keys() & set(claimed)
    assert len(begun) < len(claimed)
    assert plant.scalar("SELECT count(*) FROM ready") == 200 - len(plant.journal.runs().keys() & set(slower))
    plant.worker(slots=2)
    plant.all_ended()
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    plant.assert_sound()


def test_promise_2_a_rolling_restart_under_load_repeats_nothing_that_had_ended(plant: Plant, scale: Scale):
    plant.maintenance()
    plant.stack.register()
    api = plant.stack.api()
    nodes, most = plant.several_workers(1, slots=1), scale.of(3, 8)
    with Load(api.url, {"task_type": "chaos_tasks.slow", "task_parameters": {"seconds": 0.01}}) as load:
        for _ in range(scale.of(1, 5)):
            nodes += plant.several_workers(most - len(nodes), slots=1)
            while len(nodes) > 1:
                assert nodes.pop(0).stop() == 0
            before = len(load.accepted)
            wait.until(lambda before=before: len(load.accepted) > before + 20, what="submits")
        plant.several_workers(most - len(nodes), slots=1)
    plant.all_ended()
    assert set(load.answers) == {202}
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    assert databases.rows(plant.database_url, "SELECT DISTINCT state, attempt, worker_deaths FROM task") == [
        ("SUCCESS", 1, 0)
    ]
    plant.assert_sound(load.accepted)


def test_promise_5_a_stopped_leader_hands_over(plant: Plant):
    leader = plant.maintenance()
    worker = plant.worker(slots=1)
    wait.until(lambda: plant.scalar("SELECT count(*) FROM leader") == 1, what="a leader")
    plant.maintenance()
    assert leader.stop() == 0
    assert plant.ended(plant.submit("quick")).state == "SUCCESS"
    assert worker.alive()
    plant.assert_sound()
