"""When a node is taken for deaf."""

from __future__ import annotations

from functools import partial

from ledgerq_worker.node.deafness import ConsumerHandle, Deafness, Reconnect


def test_who_takes_nothing_for_a_while_although_tickets_lie_there_is_deaf():
    deafness = Deafness()
    looks = [deafness.look(float(now), taken=3, is_unheard=True) for now in range(12)]
    assert [now for now, is_deaf in enumerate(looks) if is_deaf] == [5, 10]


def test_who_takes_tickets_is_not_deaf_although_there_are_always_more():
    deafness = Deafness()
    assert not any(deafness.look(float(now), taken=now, is_unheard=True) for now in range(100))


def test_who_has_nothing_to_hear_is_not_deaf():
    deafness = Deafness()
    assert not any(deafness.look(float(now), taken=3, is_unheard=now % 5 > 0) for now in range(100))


class _Parent:
    """Reconnect of a parent with two slots, and what was done to it."""

    def __init__(self, ready_slots: int = 2) -> None:
        self.done: list[str] = []
        self.ready_slots = ready_slots
        self.reconnect = Reconnect()
        self.reconnect.connect_or_give_up(0, 0)  # not connected yet: nothing can be done, and nothing is
        self.reconnect.hearing = ConsumerHandle(
            partial(self.done.append, "hang up"), partial(self.done.append, "give up"), lambda: self.ready_slots
        )


def test_who_hears_again_is_cured_as_often_as_it_takes():
    parent = _Parent()
    for taken in range(9):
        parent.reconnect.connect_or_give_up(taken, 0)
        parent.reconnect.met_error()
    assert parent.done == ["hang up"] * 9


def test_who_is_still_deaf_after_two_cures_gives_up():
    parent = _Parent()
    for _ in range(3):
        parent.reconnect.connect_or_give_up(7, 1)
        parent.reconnect.met_error()  # for we hung up
    assert parent.done == ["hang up", "hang up", "give up"]


def test_who_has_no_process_that_is_ready_cannot_hear_and_nothing_is_done():
    parent = _Parent(ready_slots=0)
    for _ in range(9):
        parent.reconnect.connect_or_give_up(7, 0)
    parent.ready_slots = 1
    for _ in range(9):
        parent.reconnect.connect_or_give_up(7, 1)  # the one that is ready runs a long task
    assert parent.done == []
    parent.ready_slots = 2
    parent.reconnect.connect_or_give_up(7, 1)
    assert parent.done == ["hang up"]


def test_whom_redis_refuses_is_not_deaf_however_long_it_takes():
    parent = _Parent()
    for _ in range(9):
        for _ in range(3):
            parent.reconnect.met_error()
        parent.reconnect.connect_or_give_up(7, 0)
    assert parent.done == []
    parent.reconnect.connect_or_give_up(7, 0)  # it is let in, and takes nothing: the count begins anew
    assert parent.done == ["hang up"]
