"""Threads that many share: each owner has a few, everything is done once, and nobody waits behind all of another's work."""

from __future__ import annotations

import threading
from concurrent.futures import wait as wait_for

import pytest

from ledgerq_api.turns import Turns
from tests.support import wait


@pytest.fixture
def turns():
    made = Turns(3, each=2, name="test")
    yield made
    made.close()


class Gate:
    """Work that lasts until it is let go."""

    def __init__(self):
        self.begun, self.over = [], threading.Event()

    def work(self, name):
        def run():
            self.begun.append(name)
            assert self.over.wait(20)
            return name

        return run


def test_all_is_done_once_whatever_the_number(turns):
    done = []
    futures = [turns.submit(f"owner {n % 3}", lambda n=n: done.append(n) or n) for n in range(500)]
    assert [future.result(20) for future in futures] == list(range(500))
    assert sorted(done) == list(range(500))


def test_an_owner_has_its_share_and_others_have_the_rest(turns):
    gate = Gate()
    futures = [turns.submit("many", gate.work("many")) for _ in range(5)]
    wait.until(lambda: len(gate.begun) == 2, 20)
    futures.append(turns.submit("other", gate.work("other")))
    wait.until(lambda: len(gate.begun) == 3, 20)
    assert gate.begun == ["many", "many", "other"]
    gate.over.set()
    assert not wait_for(futures, 20).not_done


def test_owners_take_turns(turns):
    order = []
    gate = Gate()
    held = [turns.submit(owner, gate.work(owner)) for owner in ("a", "a", "b")]
    wait.until(lambda: len(gate.begun) == 3, 20)
    futures = [turns.submit("a", lambda: order.append("a")) for _ in range(20)]
    futures.append(turns.submit("c", lambda: order.append("c")))
    gate.over.set()
    assert not wait_for([*held, *futures], 20).not_done
    assert "c" in order[:4], "it came last and does not wait for all of the other's"


def test_work_that_is_cancelled_before_its_turn_is_not_done(turns):
    gate, done = Gate(), []
    held = [turns.submit("a", gate.work("a")) for _ in range(2)]
    wait.until(lambda: len(gate.begun) == 2, 20)
    given_up = turns.submit("a", lambda: done.append("given up"))
    last = turns.submit("a", lambda: done.append("last"))
    assert given_up.cancel()
    gate.over.set()
    assert not wait_for([*held, last], 20).not_done
    assert done == ["last"]


def test_an_error_is_its_owners_alone(turns):
    def fail():
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        turns.submit("a", fail).result(20)
    assert turns.submit("a", lambda: 1).result(20) == 1


def test_an_owner_whose_long_work_never_ends_leaves_processors_to_others():
    now, rests = [0.0], []

    def work(seconds):
        now[0] += seconds

    def later(seconds, action):
        rests.append(round(seconds, 6))
        action()

    turns = Turns(1, each=3, name="test", clock=lambda: now[0], later=later)
    gate = Gate()
    held = turns.submit("hog", gate.work("hog"))
    durations = (0.2, 0.005, 30.0, 0.1)
    futures = [turns.submit("hog", lambda seconds=seconds: work(seconds)) for seconds in durations]
    lone = turns.submit("other", lambda: work(5.0))
    gate.over.set()
    assert not wait_for([held, *futures, lone], 20).not_done
    turns.close()
    # Three turns: each rests for twice the time it worked, for a second at most. Quick work and a turn with nothing more
    # to do are followed by no rest.
    assert set(rests) <= {0.4, 1.0, 0.2}
    assert {0.4, 1.0} & set(rests)
