"""Group 7: thousands of times that come at once, two maintenance processes, leaders that die."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support import nodes
from tests.chaos.support.histogram import histogram
from tests.support import databases, wait

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos


def test_promise_5_thousands_due_at_once_run_once_each_while_leaders_are_killed(plant: Plant, scale: Scale):
    count, kills = scale.of(3000, 10_000), scale.of(4, 20)
    talkative = {"LEDGERQ_LOG_LEVEL": "info"}
    standing = [plant.maintenance(**talkative), plant.maintenance(**talkative)]
    plant.worker(slots=2)
    plant.submit_all("quick", [{"number": number} for number in range(count)], NewTaskOptions(countdown=4.0))
    assert plant.scalar("SELECT count(*) FROM held") == count
    for _ in range(kills):
        leader = wait.until(lambda: nodes.leader_of(standing), 60, what="a leader")
        assert leader
        leader.kill()
        standing.remove(leader)
        standing.append(plant.maintenance(**talkative))
    plant.all_ended()
    assert plant.scalar("SELECT count(*) FROM task WHERE started_at < run_at") == 0, "nothing runs before its time"
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    late = databases.rows(plant.database_url, "SELECT extract(epoch FROM started_at - run_at)::float8 FROM task")
    plant.assert_sound()
    print(histogram("ETA -> started, with leaders being killed", [value for (value,) in late], promised=15))  # type: ignore[misc]


def test_promise_5_no_time_waits_in_a_workers_memory(plant: Plant):
    """A retry's delay and an ETA survive the death of every process."""
    maintenance = plant.maintenance()
    worker = plant.worker(slots=1)
    due = plant.submit_all("quick", [{"number": 1}] * 20, NewTaskOptions(countdown=3.0))
    worker.kill()
    maintenance.kill()
    until = time.monotonic() + 1
    wait.until(lambda: time.monotonic() > until)
    plant.maintenance()
    plant.worker(slots=1)
    for task_id in due:
        assert plant.ended(task_id).attempt == 1
    assert plant.scalar("SELECT count(*) FROM task WHERE started_at < run_at") == 0
    plant.assert_sound()
