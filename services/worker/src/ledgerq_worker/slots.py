"""What each pool slot is doing, in a small shared file that outlives the processes that write it.

A slot's process writes; the lease agent and, after a death, whoever cleans up reads. So a task that holds the GIL for
half a minute can neither hide its deadline nor starve the heartbeat, and after a crash it is known which task was running.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psutil

_PREFIX = "ledgerq-slots-"
_HEADER = struct.Struct("<16s B 47x")  # worker id, stopping
_RECORD = struct.Struct("<i i q 16s d d B B 14x")  # pid, -, claim, task, begun, deadline, cancelled, terminate
_PID = struct.Struct("<i")
_CLAIM = struct.Struct("<q 16s d d B B")
_FLAGS_AT = _RECORD.size - 16
_NOBODY = bytes(16)


class SlotRecord(NamedTuple):
    """One slot, as read."""

    slot: int
    #: Process that runs the slot; 0: none has used it yet.
    pid: int
    claim_no: int
    #: The task whose code is running; null between tasks.
    task_id: str | None
    #: When it began, by the system's monotonic clock, in seconds.
    begun_at: float
    #: When it is to be killed, by the same clock; 0: never.
    deadline: float
    is_cancelled: bool
    is_terminated: bool


class SlotTable:
    """The shared file. Create it in the worker's parent, open it by path elsewhere."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.count = count
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _size(count))

    @classmethod
    def create(cls, count: int) -> SlotTable:
        """A new table for ``count`` slots, in memory where the system has a folder for that."""
        memory = Path("/dev/shm")  # noqa: S108 - the file in it has a random name and mode 600
        folder = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
        _remove_orphans(folder)
        handle, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder)
        os.truncate(handle, _size(count))
        os.close(handle)
        return cls(Path(name), count)

    def remove(self) -> None:
        """Delete the file; processes that have it open keep it."""
        self.path.unlink(missing_ok=True)

    @property
    def worker_id(self) -> UUID:
        """The id under which the node is registered at the moment; a node declared dead gets a new one."""
        return UUID(bytes=self._map[:16])

    @worker_id.setter
    def worker_id(self, worker_id: UUID) -> None:
        self._map[:16] = worker_id.bytes

    @property
    def is_stopping(self) -> bool:
        """Whether the node is to claim nothing more."""
        return self._map[16] != 0

    @is_stopping.setter
    def is_stopping(self, value: bool) -> None:
        self._map[16] = value

    def occupant(self, index: int) -> int:
        """The process that runs this slot, or died in it and has not been cleared away; 0: none."""
        return int(_PID.unpack_from(self._map, self._at(index))[0])

    def enter(self, index: int, pid: int) -> None:
        """``pid`` runs this slot from now on; 0: nobody does."""
        _RECORD.pack_into(self._map, self._at(index), pid, 0, 0, _NOBODY, 0.0, 0.0, 0, 0)

    def begin(self, index: int, claim_no: int, task_id: str, begun_at: float, deadline: float) -> None:
        """A task's code begins."""
        _CLAIM.pack_into(
            self._map, self._at(index) + 8, claim_no, bytes.fromhex(task_id.replace("-", "")), begun_at, deadline, 0, 0
        )

    def end(self, index: int) -> None:
        """The task's code has ended."""
        _CLAIM.pack_into(self._map, self._at(index) + 8, 0, _NOBODY, 0.0, 0.0, 0, 0)

    def flag_cancelled(self, index: int, *, terminate: bool = False) -> None:
        """Tell the task in this slot that it should stop."""
        self._map[self._at(index) + _FLAGS_AT] = 1
        if terminate:
            self._map[self._at(index) + _FLAGS_AT + 1] = 1

    def is_cancelled(self, index: int) -> bool:
        """Whether the task in this slot should stop."""
        return self._map[self._at(index) + _FLAGS_AT] != 0

    def read(self) -> list[SlotRecord]:
        """All slots that a process has entered."""
        records = []
        for index in range(self.count):
            pid, _, claim_no, task, begun, deadline, cancelled, terminated = _RECORD.unpack_from(
                self._map, self._at(index)
            )
            task_id = None if task == _NOBODY else str(UUID(bytes=task))
            if pid:
                records.append(
                    SlotRecord(index, pid, claim_no, task_id, begun, deadline, bool(cancelled), bool(terminated))
                )
        return records

    @staticmethod
    def _at(index: int) -> int:
        return _HEADER.size + index * _RECORD.size


def _remove_orphans(folder: Path) -> None:
    """Delete the tables of nodes that were killed together with their agents."""
    for path in folder.glob(f"{_PREFIX}*-*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            with contextlib.suppress(OSError):
                path.unlink()


def _size(count: int) -> int:
    return _HEADER.size + count * _RECORD.size
