"""Task ids order like time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgerq_shared import ids
from ledgerq_shared.ids import SAME_DELIVERY, first_id_at, new_task_id, new_task_ids, task_id_of_delivery, time_of

# 48 bits of milliseconds reach to the year 10889; Python's datetime ends before.
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


def test_an_id_is_a_version_7_uuid_of_the_standards_variant():
    task_id = new_task_id()
    assert task_id.version == 7
    assert task_id.variant == uuid4().variant
    assert str(task_id)[14] == "7"


def test_ids_of_one_process_increase_strictly_also_from_many_threads():
    together = threading.Barrier(4)

    def make() -> list[UUID]:
        together.wait(10)
        return [new_task_id() for _ in range(2000)]

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: make(), range(4)))
    for one in made:
        assert one == sorted(one)
    assert len({task_id for one in made for task_id in one}) == 8000


@pytest.mark.parametrize("count", [0, 1, 2, 511, 513, 10_000])
def test_ids_made_together_are_as_good_as_ids_made_one_by_one(count: int):
    made = [new_task_id(), *new_task_ids(count), new_task_id()]
    assert len(made) == count + 2
    assert made == sorted(made)
    assert {(task_id.version, task_id.variant) for task_id in made} == {(7, uuid4().variant)}
    assert len({task_id.int & (1 << 52) - 1 for task_id in made}) == len(made)  # what is random is never used twice


@pytest.mark.usefixtures("in_a_cell")
def test_an_id_of_a_delivery_is_an_id_like_others_and_its_end_tells_which_delivery():
    ids.use_cell(7)
    one, same, other = (task_id_of_delivery(tag) for tag in ("a", "a", "b"))
    assert one < same < other < new_task_id()
    assert {(made.version, made.variant, ids.cell_of(made)) for made in (one, other)} == {(7, uuid4().variant, 7)}
    ends = [str(made)[-SAME_DELIVERY:] for made in (one, same, other)]
    assert ends[0] == ends[1] != ends[2]


@pytest.fixture
def in_a_cell() -> Iterator[None]:
    yield
    ids.use_cell(0)


@pytest.mark.usefixtures("in_a_cell")
@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(1, 50)), min_size=1, max_size=20))
def test_ids_name_their_cell_and_are_ordered_unique_and_valid_whatever_it_is(batches: list[tuple[int, int]]):
    made: list[UUID] = []
    for cell, count in batches:
        ids.use_cell(cell)
        new = new_task_ids(count)
        assert {ids.cell_of(task_id) for task_id in new} == {cell}
        assert all(map(ids.is_of_this_cell, new))
        made += new
    assert made == sorted(set(made))
    assert [str(task_id) for task_id in made] == sorted(str(task_id) for task_id in made)
    assert {(task_id.version, task_id.variant) for task_id in made} == {(7, uuid4().variant)}
    assert {(one := time_of(task_id)) is not None and first_id_at(one) <= task_id for task_id in made} == {True}


@pytest.mark.usefixtures("in_a_cell")
@pytest.mark.parametrize("cell", [-1, 1024])
def test_there_are_1024_cells(cell: int):
    with pytest.raises(ValueError, match="from 0 to 1023"):
        ids.use_cell(cell)


@pytest.mark.usefixtures("in_a_cell")
@given(st.integers(0, (1 << 62) - 1), st.integers(1, 1023))
def test_an_id_of_before_cells_is_one_of_cell_0_and_of_no_other_but_by_chance(low: int, cell: int):
    old = UUID(int=new_task_id().int >> 64 << 64 | 2 << 62 | low)
    ids.use_cell(0)
    assert ids.is_of_this_cell(old)
    assert not ids.is_of_this_cell(uuid4())
    ids.use_cell(cell)
    assert ids.is_of_this_cell(old) == (ids.cell_of(old) == cell)


def test_order_survives_as_text_and_as_bytes():
    made = [new_task_id() for _ in range(500)]
    assert [str(task_id) for task_id in made] == sorted(str(task_id) for task_id in made)
    assert [task_id.bytes for task_id in made] == sorted(task_id.bytes for task_id in made)


def test_a_clock_that_is_set_back_does_not_break_the_order(monkeypatch: pytest.MonkeyPatch):
    before = new_task_id()
    an_hour_ago = time.time_ns() - 3_600_000_000_000
    monkeypatch.setattr(ids.time, "time_ns", lambda: an_hour_ago)
    assert before < new_task_id() < new_task_id()


def test_an_id_tells_when_it_was_made():
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = time_of(new_task_id())
    assert made is not None
    # A test that ran before may have set the process's counter ahead, but never behind.
    assert made >= before


def test_other_ids_tell_no_time():
    assert time_of(uuid4()) is None


@given(moments)
def test_the_first_id_of_a_moment_is_of_that_moment(moment: datetime):
    first = first_id_at(moment)
    assert first.version == 7
    told = time_of(first)
    assert told is not None
    assert timedelta(0) <= moment - told < timedelta(milliseconds=1)


@given(moments, moments)
def test_first_ids_order_like_their_moments(one: datetime, other: datetime):
    if int(one.timestamp() * 1000) < int(other.timestamp() * 1000):
        assert first_id_at(one) < first_id_at(other)


def test_the_first_id_of_now_is_not_above_an_id_made_now():
    assert first_id_at(datetime.now(UTC)) <= new_task_id()


def test_a_moment_in_another_zone_is_the_same_moment():
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert first_id_at(moment) == first_id_at(moment.astimezone(timezone(timedelta(hours=8))))
