"""The slot table: what one process writes, another reads."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledgerq_shared.settings import SettingsError
from ledgerq_worker.slot.table import SlotRecord, SlotTable, lease_clock

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


def test_what_was_claimed_is_held_until_the_lease_is_over_and_not_under_another_id(table: SlotTable, reader: SlotTable):
    claimed_under = uuid4()
    table.worker_id = claimed_under
    assert reader.holds(claimed_under.bytes), "nobody has kept a lease yet"
    table.held_until = lease_clock() + 60
    assert reader.is_held
    assert reader.holds(claimed_under.bytes)
    table.worker_id = uuid4()
    assert not reader.holds(claimed_under.bytes), "the node has registered anew"
    table.worker_id, table.held_until = claimed_under, lease_clock()
    assert not reader.holds(claimed_under.bytes), "its time is over"
    assert not reader.is_held


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
    assert record == SlotRecord(slot, pid, claim, task_id, begun, deadline, False)
    table.end(slot)
    record = next(one for one in reader.read() if one.slot == slot)
    assert record == SlotRecord(slot, pid, 0, None, 0.0, 0.0, False)
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
    task_id = str(uuid4())
    table.enter(3, 1)
    table.begin(3, 1, task_id, 1.0, 0.0)
    reader.flag_cancelled(3, 1, task_id)
    assert table.is_cancelled(3)
    assert not table.is_cancelled(2)
    assert not table.is_cancelled(4)
    assert reader.read()[0].is_cancelled
    table.end(3)
    assert not table.is_cancelled(3)
    table.begin(3, 2, str(uuid4()), 1.0, 0.0)
    assert not table.is_cancelled(3), "the next task of a slot inherits nothing"
    reader.flag_cancelled(3, 1, task_id)
    assert not table.is_cancelled(3), "a wish that comes too late is not for the next task"
    assert not reader.read()[0].is_cancelled


def test_a_task_that_comes_back_under_another_claim_is_not_stopped_by_an_old_wish(table: SlotTable):
    task_id = str(uuid4())
    table.enter(0, 1)
    table.begin(0, 1, task_id, 1.0, 0.0)
    table.end(0)
    table.begin(0, 2, task_id, 2.0, 0.0)
    table.flag_cancelled(0, 1, task_id)
    assert not table.is_cancelled(0)
    table.flag_cancelled(0, 2, task_id)
    assert table.is_cancelled(0)


def test_what_must_not_begin_is_listed_by_claim_and_task_until_the_next_list(table: SlotTable, reader: SlotTable):
    legs = [(number, str(uuid4())) for number in range(1, 4)]
    assert not reader.is_listed_cancelled(*legs[0])
    table.list_cancelled(legs)
    assert all(reader.is_listed_cancelled(*leg) for leg in legs)
    assert not reader.is_listed_cancelled(9, legs[0][1])
    table.list_cancelled(legs[1:2])
    assert [reader.is_listed_cancelled(*leg) for leg in legs] == [False, True, False]
    table.list_cancelled([])
    assert not any(reader.is_listed_cancelled(*leg) for leg in legs)


def test_a_list_that_is_too_long_is_cut_and_touches_nothing_else(table: SlotTable, reader: SlotTable):
    table.enter(COUNT - 1, 7)
    legs = [(number, str(uuid4())) for number in range(1, 400)]
    table.list_cancelled(legs)
    assert reader.is_listed_cancelled(*legs[255])
    assert not reader.is_listed_cancelled(*legs[256])
    assert [record.pid for record in reader.read()] == [7]


def test_a_record_is_unchanged_until_its_process_goes_on(table: SlotTable, reader: SlotTable):
    task_id = str(uuid4())
    table.enter(2, 4711)
    table.begin(2, 5, task_id, 1.5, 2.5)
    record = reader.read()[0]
    reader.flag_cancelled(2, 5, task_id)
    assert reader.is_unchanged(record)
    table.end(2)
    assert not reader.is_unchanged(record)


def test_a_new_process_in_a_slot_inherits_nothing(table: SlotTable):
    table.enter(0, 1)
    task_id = str(uuid4())
    table.begin(0, 7, task_id, 1.0, 2.0)
    table.flag_cancelled(0, 7, task_id)
    table.enter(0, 2)
    [record] = table.read()
    assert record._replace(signs_by=0.0) == SlotRecord(0, 2, 0, None, 0.0, 0.0, is_cancelled=False)


def test_a_sign_changes_nothing_of_what_runs_and_is_seen(table: SlotTable, reader: SlotTable):
    task_id = str(uuid4())
    table.enter(3, 77)
    table.begin(3, 7, task_id, 1.0, 2.0)
    [before] = reader.read()
    assert before.signs_by == 0, "whoever runs a task need give none"
    table.sign(3, within=10.0)
    table.flag_cancelled(3, 7, task_id)
    assert reader.is_unchanged(before)
    assert not reader.is_as_it_was(before)
    [after] = reader.read()
    assert after.is_cancelled
    assert reader.is_as_it_was(after)


def test_another_process_sees_it_and_the_writers_death_changes_nothing(table: SlotTable):
    task_id = str(uuid4())
    code = (
        "import os, sys; from pathlib import Path; from ledgerq_worker.slot.table import SlotTable\n"
        f"table = SlotTable(Path(sys.argv[1]), {COUNT})\n"
        "table.enter(1, 4711); table.begin(1, 5, sys.argv[2], 1.5, 2.5); os._exit(9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(table.path), task_id], check=False)
    assert ended.returncode == 9
    assert table.read() == [SlotRecord(1, 4711, 5, task_id, 1.5, 2.5, False)]


def test_a_table_in_use_stays_whatever_its_name_says_of_processes(table: SlotTable):
    """Containers of one pod share the folder, but not their processes' numbers."""
    elsewhere = table.path.with_name(f"ledgerq-node-{2**22 + 1}-elsewhere")  # no process of this machine
    table.path = table.path.rename(elsewhere)
    SlotTable.create(COUNT).remove()
    assert elsewhere.exists()


def test_the_table_of_a_killed_node_is_removed_by_the_next(table: SlotTable):
    code = (
        "import os, sys; from ledgerq_worker.slot.table import SlotTable\n"
        f"table = SlotTable.create({COUNT}); print(table.path, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        left = Path(node.stdout.readline().decode().strip())
        SlotTable.create(COUNT).remove()
        assert left.exists(), "it lives"
        node.kill()
    SlotTable.create(COUNT).remove()
    assert not left.exists()
    assert table.path.exists()


def _no_room(folders: list[Path]) -> Callable[[int, int, int], None]:
    """Those file systems are full."""

    def allocate(handle: int, start: int, size: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().parent in folders:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.truncate(handle, start + size)

    return allocate


def test_a_table_for_which_memory_has_no_room_is_made_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", _no_room([Path("/dev/shm")]))
    table = SlotTable.create(COUNT)
    assert table.path.parent == tmp_path
    table.remove()


def test_without_room_anywhere_a_table_is_refused_in_one_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    before = set(Path("/dev/shm").glob(f"ledgerq-node-{os.getpid()}-*"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", _no_room([Path("/dev/shm"), tmp_path]))
    with pytest.raises(SettingsError, match="No space left on device"):
        SlotTable.create(COUNT)
    assert list(tmp_path.iterdir()) == []
    assert set(Path("/dev/shm").glob(f"ledgerq-node-{os.getpid()}-*")) == before


def test_a_tables_room_is_its_own_from_the_beginning(table: SlotTable):
    """Else a disk that fills up later would end whoever writes with SIGBUS."""
    status = table.path.stat()
    assert status.st_blocks * 512 >= status.st_size
