"""Group 6, around COMMIT: the connection breaks before or after it, and SIGTERM arrives at that very moment."""

from __future__ import annotations

import json
import random
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.chaos.support.load import Load
from tests.support import databases, wait
from tests.support.proxy import CommitBreaker, Fate

if TYPE_CHECKING:
    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant
    from tests.support.stack import Running

pytestmark = pytest.mark.chaos

_BROKEN = (Fate.UNSENT, Fate.UNANSWERED)


def test_promise_2_commits_that_break_before_or_behind_lose_and_repeat_nothing(plant: Plant, scale: Scale):
    """API, worker and leader, each at its own commits, under load. Nobody died: so nothing may run a second time."""
    dice = random.Random(scale.seed)
    with ExitStack() as proxies:
        # The API would wait for its lost transaction's end, and say 503: that is honest and slow.
        ways = [
            proxies.enter_context(CommitBreaker(plant.database_url, tells_server=tells))
            for tells in (False, False, True)
        ]
        plant.stack.register()
        plant.maintenance(DATABASE_URL=ways[0].url)
        worker = plant.worker(slots=2, DATABASE_URL=ways[1].url)
        api = plant.stack.api(DATABASE_URL=ways[2].url)
        with Load(api.url, {"task_type": "chaos_tasks.quick"}, clients=4) as load:
            for number in range(scale.of(12, 300)):
                way = ways[number % 3]
                way.arm(dice.choice(_BROKEN))
                assert way.met.wait(60), f"commit {number}: {worker.log()}"
            for fate in _BROKEN:  # most commits of a worker are looks at an empty queue
                _meets_results(ways[1], worker, fate, times=3)
        plant.all_ended()
        assert worker.alive()
        plant.stack.close()  # before the proxies
    assert set(load.answers) <= {202, 503}, load.answers
    print(f"commits broken: {scale.of(12, 300)}, tasks: {len(load.accepted)}, answers: {dict(load.answers)}")
    _assert_each_ran_once(plant)
    plant.assert_sound(load.accepted)


def _meets_results(way: CommitBreaker, worker: Running, fate: Fate, *, times: int) -> None:
    """Let commits of the worker meet ``fate`` until so many more of them had results with them."""
    goal = _unknown_with_results(worker) + times

    def has_met_them() -> bool:
        way.arm(fate)
        assert way.met.wait(60), worker.log()
        # To ask what became of a commit takes a commit, too. If each of these were broken, nobody would ever know.
        way.arm(Fate.PASSED_ON)
        assert way.met.wait(60), worker.log()
        return _unknown_with_results(worker) >= goal

    wait.until(has_met_them, 60, what=worker.log)


def _unknown_with_results(worker: Running) -> int:
    """How often it could not know whether results were recorded."""
    lines = [line for line in worker.log().splitlines() if "worker.record.outcome_unknown" in line]
    return sum(json.loads(line)["legs"] > 0 for line in lines)


def test_promise_2_sigterm_at_a_commit_that_may_also_break_loses_and_repeats_nothing(plant: Plant, scale: Scale):
    dice = random.Random(scale.seed)
    plant.maintenance()
    plant.submit_all("quick", [{"number": one} for one in range(100)])
    ended = 0
    with ExitStack() as proxies:
        ways = [proxies.enter_context(CommitBreaker(plant.database_url)) for _ in range(2)]
        while ended < scale.of(2, 20):
            before = plant.workers()
            nodes = [plant.stack.worker(DATABASE_URL=way.url) for way in ways]
            wait.until(lambda before=before: plant.workers() == before + 2, 60, what="two workers register")
            for way, node in zip(ways, nodes, strict=True):
                _sigterm_at(plant, way, node, list(Fate)[ended % len(Fate)], skip=dice.randrange(8))
                ended += 1
            assert plant.scalar("SELECT count(*) FROM claim") == 0
    plant.worker(slots=2)
    plant.all_ended()
    _assert_each_ran_once(plant)
    plant.assert_sound()


def _sigterm_at(plant: Plant, way: CommitBreaker, node: Running, fate: Fate, *, skip: int) -> None:
    """Let one of the node's next commits meet ``fate``, and send the node SIGTERM at that moment."""

    def is_met() -> bool:
        if way.met.wait(0.5):
            return True
        plant.submit_all("slow", [{"seconds": 0.02}] * 40)  # the other node may have done all that there was
        return False

    plant.submit_all("slow", [{"seconds": 0.02}] * 40)
    for _ in range(skip):
        way.arm(Fate.PASSED_ON)
        wait.until(is_met, 60, what=node.log)
    way.arm(fate, lambda: node.send(signal.SIGTERM))
    wait.until(is_met, 60, what=node.log)
    assert node.wait() == 0, fate


def _assert_each_ran_once(plant: Plant) -> None:
    assert databases.rows(plant.database_url, "SELECT DISTINCT state, attempt, worker_deaths FROM task") == [
        ("SUCCESS", 1, 0)
    ]
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    assert not databases.rows(plant.database_url, "SELECT 1 FROM task_event WHERE kind = 'late_write_refused'")
