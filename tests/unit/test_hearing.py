"""When a node is taken for deaf."""

from __future__ import annotations

from functools import partial

from ledgerq_worker.node.hearing import Deafness, Ears


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


def test_who_hears_again_is_cured_as_often_as_it_takes():
    done: list[str] = []
    ears = Ears()
    ears.cure(0)  # not connected yet: nothing can be done, and nothing is
    ears.hang_up, ears.give_up = partial(done.append, "hang up"), partial(done.append, "give up")
    for taken in range(9):
        ears.cure(taken)
    assert done == ["hang up"] * 9


def test_who_is_still_deaf_after_two_cures_gives_up():
    done: list[str] = []
    ears = Ears()
    ears.hang_up, ears.give_up = partial(done.append, "hang up"), partial(done.append, "give up")
    for _ in range(3):
        ears.cure(7)
    assert done == ["hang up", "hang up", "give up"]
