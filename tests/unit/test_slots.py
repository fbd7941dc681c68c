"""The slot table: what one process writes, another reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledgerq_worker.slots import SlotRecord, SlotTable

COUNT = 8
slots = st.integers(0, COUNT - 1)
pids = st.integers(1, 2**31 - 1)
claims = st.integers(1, 2**63 - 1)
times = st.floats(0, 1e9)


@pytest.fixture
def table() -> Iterator[SlotTable]:
    table = SlotTable.create(COUNT)
    yield table
    table.remove()


@pytest.fixture
def reader(table: SlotTable) -> SlotTable:
    """The same file, opened anew."""
    return SlotTable(table.path, COUNT)


def test_a_new_table_is_empty(reader: SlotTable):
    assert reader.read() == []
    assert reader.worker_id == UUID(int=0)
    assert not reader.is_stopping
    assert not reader.is_cancelled(0)


def test_the_file_is_private_and_goes_away(table: SlotTable):
    assert table.path.stat().st_mode & 0o077 == 0
    table.remove()
    table.remove()
    assert not table.path.exists()


def test_the_header_is_shared(table: SlotTable, reader: SlotTable):
    worker_id = uuid4()
    table.worker_id, table.is_stopping = worker_id, True
    assert (reader.worker_id, reader.is_stopping) == (worker_id, True)
    assert reader.read() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slot=slots, pid=pids, claim=claims, task=st.uuids(), begun=times, deadline=times)
def test_what_is_written_is_read(
    table: SlotTable, reader: SlotTable, slot: int, pid: int, claim: int, task: UUID, begun: float, deadline: float
):
    table.enter(slot, pid)
    table.begin(slot, claim, str(task), begun, deadline)
    record = next(one for one in reader.read() if one.slot == slot)
    task_id = None if task.int == 0 else str(task)
    assert record == SlotRecord(slot, pid, claim, task_id, begun, deadline, False, False)
    table.end(slot)
    record = next(one for one in reader.read() if one.slot == slot)
    assert record == SlotRecord(slot, pid, 0, None, 0.0, 0.0, False, False)
    table.enter(slot, 0)
    assert slot not in {one.slot for one in reader.read()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(slots, st.booleans()), max_size=20))
def test_slots_do_not_touch_one_another(table: SlotTable, reader: SlotTable, steps: list[tuple[int, bool]]):
    expected: dict[int, str | None] = {}
    for index in range(COUNT):
        table.enter(index, index + 1)
        expected[index] = None
    for index, begins in steps:
        if begins:
            expected[index] = str(uuid4())
            table.begin(index, 1, expected[index] or "", 0.0, 0.0)
        else:
            expected[index] = None
            table.end(index)
    assert {record.slot: record.task_id for record in reader.read()} == expected


def test_a_request_to_stop_is_the_running_tasks_alone(table: SlotTable, reader: SlotTable):
    table.enter(3, 1)
    table.begin(3, 1, str(uuid4()), 1.0, 0.0)
    reader.flag_cancelled(3)
    assert table.is_cancelled(3)
    assert not table.is_cancelled(2)
    assert not table.is_cancelled(4)
    assert reader.read()[0].is_cancelled
    assert not reader.read()[0].is_terminated
    reader.flag_cancelled(3, terminate=True)
    assert reader.read()[0].is_terminated
    table.end(3)
    assert not table.is_cancelled(3)
    table.begin(3, 2, str(uuid4()), 1.0, 0.0)
    assert not table.is_cancelled(3), "the next task of a slot inherits nothing"


def test_a_new_process_in_a_slot_inherits_nothing(table: SlotTable):
    table.enter(0, 1)
    table.begin(0, 7, str(uuid4()), 1.0, 2.0)
    table.flag_cancelled(0, terminate=True)
    table.enter(0, 2)
    assert table.read() == [SlotRecord(0, 2, 0, None, 0.0, 0.0, False, False)]


def test_another_process_sees_it_and_the_writers_death_changes_nothing(table: SlotTable):
    task_id = str(uuid4())
    code = (
        "import os, sys; from pathlib import Path; from ledgerq_worker.slots import SlotTable\n"
        f"table = SlotTable(Path(sys.argv[1]), {COUNT})\n"
        "table.enter(1, 4711); table.begin(1, 5, sys.argv[2], 1.5, 2.5); os._exit(9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(table.path), task_id], check=False)
    assert ended.returncode == 9
    assert table.read() == [SlotRecord(1, 4711, 5, task_id, 1.5, 2.5, False, False)]
