"""Where a claim begins to look: after what it claimed last, and now and then at the head."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_worker.drain.low_water import LowWater

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def marks(clock: Clock) -> LowWater:
    """Marks whose first full look is over."""
    marks = LowWater(clock)
    assert marks.marks("q") == {}
    return marks


def claimed(second: float, priority: int = 5) -> Any:
    fields = dict.fromkeys(ClaimedTask._fields)
    return ClaimedTask(**{**fields, "priority": priority, "ready_at": T0 + timedelta(seconds=second)})  # type: ignore[arg-type]


def test_the_first_look_is_a_full_one(clock: Clock):
    assert LowWater(clock).marks("q") == {}


def test_the_next_look_begins_shortly_before_the_last_entry_of_each_priority(marks: LowWater):
    marks.claimed("q", [claimed(3, 9), claimed(1), claimed(2)])
    found = marks.marks("q")
    assert set(found) == {9, 5}
    assert T0 + timedelta(seconds=1.9) < found[5] < T0 + timedelta(seconds=2)
    assert T0 + timedelta(seconds=2.9) < found[9] < T0 + timedelta(seconds=3)


def test_a_straggler_does_not_move_a_mark_back(marks: LowWater):
    marks.claimed("q", [claimed(10)])
    mark = marks.marks("q")[5]
    marks.claimed("q", [claimed(1)])
    assert marks.marks("q")[5] == mark


def test_a_full_look_is_taken_every_half_second_even_while_claims_succeed(marks: LowWater, clock: Clock):
    looks = []
    for number in range(21):
        clock.now += 0.1
        looks.append(not marks.marks("q"))
        marks.claimed("q", [claimed(number)])
    full = [index for index, is_full in enumerate(looks) if is_full]
    assert len(full) >= 4
    assert max(later - earlier for earlier, later in itertools.pairwise(full)) <= 6


@pytest.mark.parametrize(("takes", "at_least", "at_most"), [(0.0, 0.5, 0.5), (1.0, 4.0, 4.0), (60.0, 5.0, 5.0)])
def test_a_full_look_that_takes_long_is_not_followed_by_another_at_once(
    marks: LowWater, clock: Clock, takes: float, at_least: float, at_most: float
):
    clock.now += takes  # beside millions of dead entries, say
    marks.claimed("q", [claimed(1)])
    ended = clock.now
    while marks.marks("q"):
        marks.claimed("q", [claimed(2)])
        clock.now += 0.1
    assert at_least <= clock.now - ended <= at_most + 0.2


def test_after_an_empty_claim_the_head_is_looked_at_once_more(marks: LowWater):
    marks.claimed("q", [claimed(1)])
    assert marks.forget("q")
    assert marks.marks("q") == {}
    assert not marks.forget("q")


def test_an_empty_claim_is_no_news(marks: LowWater):
    marks.claimed("q", [])
    assert not marks.forget("q")


def test_queues_are_apart(marks: LowWater):
    marks.marks("other")
    marks.claimed("q", [claimed(1)])
    assert marks.marks("other") == {}
