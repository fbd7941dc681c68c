"""How many workers a load needs: policy, as a table."""

from __future__ import annotations

import pytest

from ledgerq_api.scaling.service import Target, demand
from ledgerq_shared.statements.read_scaling import QueueLoad

_EMPTY = QueueLoad("q", False, 0, 0, 0, 0.0, None, 0, None)
_MINUTE = Target(drain_seconds=60.0, run_seconds=1.0, slots_per_worker=2)


@pytest.mark.parametrize(
    ("load", "desired"),
    [
        # nothing
        ({}, 0),
        # one waiting task wakes one worker, however quick it is
        ({"backlog": 1, "run_seconds": 0.0001}, 1),
        ({"backlog": 1, "run_seconds": 86_400.0}, 1),
        # five long tasks need five slots, not five hundred
        ({"backlog": 5, "run_seconds": 6000.0}, 3),
        # 120 s of work in a minute: two slots
        ({"backlog": 120, "run_seconds": 1.0}, 1),
        ({"backlog": 121, "run_seconds": 1.0}, 2),
        ({"backlog": 1_000_000, "run_seconds": 0.001}, 9),
        # nothing measured: the setting
        ({"backlog": 600}, 5),
        # what runs is left alone
        ({"busy_slots": 3, "running": 3, "run_seconds": 1.0}, 2),
        # slots that stay busy do not drain anything
        ({"busy_slots": 4, "backlog": 4, "run_seconds": 3600.0}, 4),
        # slots that are free in a moment do
        ({"busy_slots": 2, "backlog": 100, "run_seconds": 0.01}, 1),
        # paused
        ({"is_paused": True, "backlog": 1000}, 0),
        ({"is_paused": True, "backlog": 1000, "busy_slots": 1}, 1),
    ],
)
def test_desired_workers(load, desired):
    assert demand([_EMPTY._replace(**load)], _MINUTE).desired_workers == desired


def test_queues_of_the_same_workers_are_added_up():
    one = _EMPTY._replace(backlog=60, run_seconds=1.0, oldest_seconds=3.0, live_slots=4, running=1, busy_slots=1)
    both = demand([one, one._replace(run_seconds=3.0, oldest_seconds=5.0)], _MINUTE)
    assert (both.backlog, both.running, both.oldest_seconds) == (120, 2, 5.0)
    assert both.drain_seconds == (60 + 180) / 4
    assert both.desired_workers == 3


def test_without_a_slot_one_is_assumed_so_that_every_field_is_a_number():
    answer = demand([_EMPTY._replace(backlog=10, run_seconds=2.0)], Target(60.0, 1.0))
    assert answer.drain_seconds == 20.0
    assert answer.desired_workers == 1


def test_the_latest_worker_of_the_queue_says_how_many_slots_one_has():
    load = _EMPTY._replace(backlog=600, run_seconds=1.0, slots_per_worker=5)
    assert demand([load], Target(60.0, 1.0)).desired_workers == 2
    assert demand([load], Target(60.0, 1.0, slots_per_worker=1)).desired_workers == 10
