"""What each pool slot is doing, in a small shared file that outlives the processes that write it.

The slot's process writes; the lease agent reads, and after a death the process that cleans up reads. So a task that
holds the GIL for half a minute can neither hide its deadline nor starve the heartbeat, and after a crash it is known
which task was running.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.descriptors import identity
from ledgerq_shared.settings import SettingsError

_PREFIX = "ledgerq-node-"
#: Worker id, stopping, deaf, number of cancelled legs, tickets taken, watched, suspects, lease held until, asides until.
_HEADER = struct.Struct("<16s B B H I B B 6x d d 16x")
_COUNT = struct.Struct("<H")
_COUNT_AT = 18
_WATCHED_AT = 24
_SUSPECTS_AT = 25
_HELD_UNTIL = struct.Struct("d")  # native: any process reads or writes it in one step
_HELD_UNTIL_AT = 32
_ASIDES_UNTIL = struct.Struct("d")
_ASIDES_UNTIL_AT = 40
_TICKETS = struct.Struct("<I")
_TICKETS_AT = 20
_LEG = struct.Struct("<q 16s")  # a task under one claim: claim, task
# pid, drains, solitude, leg, begun, deadline, the leg that is to stop, by when the slot gives a sign
_RECORD = struct.Struct("<i ? B 2x q 16s d d 24s d")
_PID = struct.Struct("<i")
_DRAINS_AT = 4
_SOLITUDE_AT = 5
_RUNNING = struct.Struct("<q 16s d d 24s d")
_SIGN = struct.Struct("d")
_LEG_AT = 8
_SIGN_AT = _RECORD.size - _SIGN.size
_CANCELLED_AT = _SIGN_AT - _LEG.size
_NOBODY = bytes(16)
_NO_LEG = bytes(_LEG.size)
#: The clock of leases goes on while a machine sleeps or a process is frozen, so the lease is lost meanwhile. It is the
#: same in all processes of a system. (On systems other than Linux, the monotonic clock counts this time.)
_LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: Between two tasks a slot gives a sign at least once in this many seconds, unless it announces another time.
SIGNS_WITHIN = 60.0
#: One piece of work in a store takes less than this many seconds, however busy the store is, or it is repeated, with a
#: sign.
STORE_WITHIN = 900.0
#: How many legs of a node can be listed as cancelled before they have begun. The cancel of further ones is noticed when
#: they run.
_MOST_CANCELLED = 256


def lease_clock() -> float:
    """Now, by the clock of leases, in seconds."""
    return time.clock_gettime(_LEASE_CLOCK)


class SlotRecord(NamedTuple):
    """One slot, as read."""

    slot: int
    #: The process that runs the slot; 0: none has used it yet.
    pid: int
    claim_no: int
    #: The task whose code is running; None between tasks.
    task_id: str | None
    #: When it began, by the system's monotonic clock, in seconds.
    begun_at: float
    #: When it is to be killed, by the same clock; 0: never.
    deadline: float
    is_cancelled: bool
    #: Whether the slot works on a ticket.
    is_draining: bool = True
    #: By when the slot will give another sign, unless it runs a task; by the monotonic clock; 0: it has not announced a
    #: time.
    signs_by: float = 0.0


#: How many fields of a record say which process runs which task.
_WHAT_RUNS = SlotRecord._fields.index("is_cancelled")


class SlotTable:
    """The shared file. Create it in the worker's parent; elsewhere open it by its path, or by an inherited descriptor
    (because somebody may have deleted the file at that path).

    Each process that has it open holds a lock on it, which the kernel releases when the process dies. So a file that
    nobody has locked belonged to a node that was killed together with its agent. Process numbers would not show this,
    because containers may share the folder.
    """

    def __init__(self, path: Path, count: int, handle: int | None = None) -> None:
        self.path = path
        self.count = count
        self._handle = os.open(path, os.O_RDWR) if handle is None else handle
        self._file = identity(self._handle)
        fcntl.flock(self._handle, fcntl.LOCK_SH)  # held as long as the map, which keeps the file open
        self._map = mmap.mmap(self._handle, _size(count))

    @classmethod
    def create(cls, count: int) -> SlotTable:
        """A new table for ``count`` slots; it is in memory if the system has a folder for that with room in it.

        Raises:
            SettingsError: there is room in no folder.
        """
        memory = Path("/dev/shm")  # noqa: S108 - the file in it has a random name and mode 600
        refusals = []
        for folder in (memory, Path(tempfile.gettempdir())):
            try:
                return cls._create_in(folder, count)
            except OSError as error:
                refusals.append(f"{folder}: {error.strerror}")
        raise SettingsError(
            f"no room for the worker's slot file of {_size(count):,} bytes ({'; '.join(refusals)}): "
            "make some, or name another folder in TMPDIR"
        )

    @classmethod
    def _create_in(cls, folder: Path, count: int) -> SlotTable:
        _remove_orphans(folder)
        while True:
            handle, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder)
            fcntl.flock(handle, fcntl.LOCK_SH)
            if os.fstat(handle).st_nlink:
                break
            os.close(handle)  # a process that looks for orphans was quicker
        try:
            # Allocates the pages and not only the length: a write to a page for which a full disk has no room would be
            # a SIGBUS.
            os.posix_fallocate(handle, 0, _size(count))
            table = cls(Path(name), count, handle)
        except OSError:
            Path(name).unlink(missing_ok=True)
            os.close(handle)
            raise
        table.held_until = math.inf  # until an agent renews a lease
        return table

    def remove(self) -> None:
        """Delete the file; processes that have it open keep it."""
        self.path.unlink(missing_ok=True)
        if self.handle is not None:
            os.close(self._handle)

    @property
    def handle(self) -> int | None:
        """The descriptor of the open file, to be inherited; None: a task has closed it, or put something else in its
        place.
        """
        return self._handle if identity(self._handle) == self._file else None

    @property
    def is_at_its_path(self) -> bool:
        """Whether the file can be opened by its path: somebody may have deleted it, or put another file there."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    def is_shared_with(self, pid: int) -> bool:
        """Whether a process has this table in its memory. A node's own processes do, even if their parent is gone; a
        process that got the number of a dead one does not. (If the system does not tell, the answer is yes.)
        """
        status = os.fstat(self._handle) if self.handle is not None else None
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            return not Path("/proc/self/maps").exists()
        except PermissionError:  # we may not signal it, either
            return True
        if status is None:
            return any(str(self.path) in line for line in lines)
        return any(_PREFIX in line and line.split()[4] == str(status.st_ino) for line in lines)

    @property
    def worker_id(self) -> UUID:
        """The id under which the node is registered now; a node that was declared dead gets a new one."""
        return UUID(bytes=self._map[:16])

    @worker_id.setter
    def worker_id(self, worker_id: UUID) -> None:
        self._map[:16] = worker_id.bytes

    @property
    def held_until(self) -> float:
        """Until when the node certainly has its lease, by :func:`lease_clock`. In the ledger the lease may last a
        moment longer.
        """
        return float(_HELD_UNTIL.unpack_from(self._map, _HELD_UNTIL_AT)[0])

    @held_until.setter
    def held_until(self, at: float) -> None:
        _HELD_UNTIL.pack_into(self._map, _HELD_UNTIL_AT, at)

    @property
    def is_held(self) -> bool:
        """Whether the node has its lease."""
        return lease_clock() < self.held_until

    def holds(self, worker_id: bytes) -> bool:
        """Whether tasks that were claimed under this id (its bytes) still belong to the node: the node was not declared
        dead, and cannot have been. It is asked before every task.
        """
        # The order matters: an agent that registers the node anew writes the id first.
        return lease_clock() < _HELD_UNTIL.unpack_from(self._map, _HELD_UNTIL_AT)[0] and self._map[:16] == worker_id

    @property
    def is_stopping(self) -> bool:
        """Whether the node must claim nothing more."""
        return self._map[16] != 0

    @is_stopping.setter
    def is_stopping(self, value: bool) -> None:
        self._map[16] = value

    @property
    def is_deaf(self) -> bool:
        """Whether the node takes no tickets although there are some."""
        return self._map[17] != 0

    @is_deaf.setter
    def is_deaf(self, value: bool) -> None:
        self._map[17] = value

    @property
    def tickets(self) -> int:
        """A number that changes whenever the node takes a ticket. Slots count at the same time, so it is not exact."""
        return int(_TICKETS.unpack_from(self._map, _TICKETS_AT)[0])

    def took_ticket(self) -> None:
        """Count a ticket that has reached a slot."""
        _TICKETS.pack_into(self._map, _TICKETS_AT, (self.tickets + 1) % 2**32)

    @property
    def is_watched(self) -> bool:
        """Whether somebody listens for Celery's events."""
        return self._map[_WATCHED_AT] != 0

    @is_watched.setter
    def is_watched(self, value: bool) -> None:
        self._map[_WATCHED_AT] = value

    def occupant(self, index: int) -> int:
        """The process that runs this slot, or that died in it and has not been cleared away; 0: none."""
        return int(_PID.unpack_from(self._map, self._at(index))[0])

    def enter(self, index: int, pid: int) -> None:
        """Note that ``pid`` works on a ticket in this slot from now on; 0: no process does."""
        signs_by = time.monotonic() + SIGNS_WITHIN
        _RECORD.pack_into(self._map, self._at(index), pid, pid != 0, 0, 0, _NOBODY, 0.0, 0.0, _NO_LEG, signs_by)

    def sign(self, index: int, within: float = SIGNS_WITHIN) -> None:
        """Give a sign: the slot is at work, and will give another sign within this many seconds, or will begin a task.
        Only the slot's own process calls this.
        """
        _SIGN.pack_into(self._map, self._at(index) + _SIGN_AT, time.monotonic() + within)

    def rest(self, index: int) -> None:
        """Note that the slot's process is ready for the next ticket."""
        self._map[self._at(index) + _DRAINS_AT] = self._map[self._at(index) + _SOLITUDE_AT] = 0

    @property
    def has_idle_slot(self) -> bool:
        """Whether a slot is ready for a ticket."""
        return not all(self._map[self._at(index) + _DRAINS_AT] for index in range(self.count))

    @property
    def has_busy_slot(self) -> bool:
        """Whether a slot works on a ticket, or its process died over one and has not been cleared away."""
        return any(self._map[self._at(index) + _DRAINS_AT] for index in range(self.count))

    @property
    def busy_slots(self) -> int:
        """How many slots are busy, in the sense of `has_busy_slot`."""
        return sum(self._map[self._at(index) + _DRAINS_AT] != 0 for index in range(self.count))

    @property
    def may_have_suspects(self) -> bool:
        """Whether a slot wants solitude for a suspect, or wanted it: a cheap question before the exact one."""
        return self._map[_SUSPECTS_AT] != 0

    @may_have_suspects.setter
    def may_have_suspects(self, value: bool) -> None:
        self._map[_SUSPECTS_AT] = value

    @property
    def may_have_asides(self) -> bool:
        """Whether a slot keeps an end aside that it could not record, or did so a while ago: then it holds a claim that
        it does not work on.
        """
        return bool(time.monotonic() < _ASIDES_UNTIL.unpack_from(self._map, _ASIDES_UNTIL_AT)[0])

    def has_asides(self, within: float = STORE_WITHIN) -> None:
        """A slot keeps an end for later. It says so again ``within`` so many seconds: what it does not say any more is
        forgotten.
        """
        _ASIDES_UNTIL.pack_into(self._map, _ASIDES_UNTIL_AT, time.monotonic() + within)

    def is_done_with(self, index: int, claim_no: int) -> bool:
        """Whether a slot certainly no longer works on a claim that the ledger showed before this call: the slot rests,
        or runs a task that it claimed later. Between two tasks this cannot be told.

        A number that is being written looks smaller than it is, never greater.
        """
        drains, _, running, *_ = _RECORD.unpack_from(self._map, self._at(index))[1:]
        return bool(not drains or running > claim_no)

    def want_solitude(self, index: int, how: int) -> None:
        """Note that this slot has a suspect that needs this kind of solitude; 0: it has none any more."""
        self._map[self._at(index) + _SOLITUDE_AT] = how

    def others(self, index: int) -> Iterator[tuple[int, int, bool]]:
        """Of each other slot: its index, the solitude it wants, and whether a task's code runs in it."""
        for other in range(self.count):
            if other != index:
                at = self._at(other)
                task = self._map[at + _LEG_AT + 8 : at + _LEG_AT + _LEG.size]
                yield other, self._map[at + _SOLITUDE_AT], task != _NOBODY

    def begin(self, index: int, claim_no: int, task_id: str, begun_at: float, deadline: float) -> None:
        """Note that a task's code begins."""
        task = bytes.fromhex(task_id.replace("-", ""))
        _RUNNING.pack_into(self._map, self._at(index) + _LEG_AT, claim_no, task, begun_at, deadline, _NO_LEG, 0.0)

    def end(self, index: int, ended_at: float = 0.0) -> None:
        """Note that the task's code has ended, at this time of the monotonic clock."""
        signs_by = ended_at and ended_at + SIGNS_WITHIN
        _RUNNING.pack_into(self._map, self._at(index) + _LEG_AT, 0, _NOBODY, 0.0, 0.0, _NO_LEG, signs_by)

    def flag_cancelled(self, index: int, claim_no: int, task_id: str) -> None:
        """Tell the task in this slot that it should stop.

        The request names its task, so that a request that arrives when the slot has gone on to the next task does not
        stop that one.
        """
        at = self._at(index) + _CANCELLED_AT
        self._map[at : at + _LEG.size] = _packed(claim_no, task_id)

    def is_cancelled(self, index: int) -> bool:
        """Whether the task in this slot should stop."""
        at = self._at(index)
        wanted = self._map[at + _CANCELLED_AT : at + _CANCELLED_AT + _LEG.size]
        return wanted != _NO_LEG and wanted == self._map[at + _LEG_AT : at + _LEG_AT + _LEG.size]

    def list_cancelled(self, legs: Iterable[tuple[int, str]]) -> None:
        """List the claimed tasks that this node must not begin any more, as ``(claim number, task id)``."""
        packed = [_packed(claim_no, task_id) for claim_no, task_id in legs][:_MOST_CANCELLED]
        start = self._at(self.count)
        self._map[start : start + len(packed) * _LEG.size] = b"".join(packed)
        _COUNT.pack_into(self._map, _COUNT_AT, len(packed))

    def is_listed_cancelled(self, claim_no: int, task_id: str) -> bool:
        """Whether a claimed task must not begin any more. It is asked before every task, and costs nothing while the
        list is empty.
        """
        (count,) = _COUNT.unpack_from(self._map, _COUNT_AT)
        if not count:
            return False
        start, wanted = self._at(self.count), _packed(claim_no, task_id)
        return any(
            self._map[at : at + _LEG.size] == wanted for at in range(start, start + count * _LEG.size, _LEG.size)
        )

    def read(self) -> list[SlotRecord]:
        """All slots that a process has entered."""
        records = []
        for index in range(self.count):
            pid, drains, _, claim_no, task, begun, deadline, cancelled, signs_by = _RECORD.unpack_from(
                self._map, self._at(index)
            )
            task_id = None if task == _NOBODY else str(UUID(bytes=task))
            if pid:
                is_cancelled = cancelled != _NO_LEG and cancelled == _LEG.pack(claim_no, task)
                records.append(
                    SlotRecord(index, pid, claim_no, task_id, begun, deadline, is_cancelled, drains, signs_by)
                )
        return records

    def is_unchanged(self, record: SlotRecord) -> bool:
        """Whether the same process still runs the same task, or still none, in that slot."""
        return any(now[:_WHAT_RUNS] == record[:_WHAT_RUNS] for now in self.read())

    def is_as_it_was(self, record: SlotRecord) -> bool:
        """Whether that slot has done nothing since then; it has not even given a sign."""
        return any(now._replace(is_cancelled=record.is_cancelled) == record for now in self.read())

    @staticmethod
    def _at(index: int) -> int:
        return _HEADER.size + index * _RECORD.size


def _remove_orphans(folder: Path) -> None:
    """Delete the tables that nobody has open."""
    for path in folder.glob(f"{_PREFIX}*-*"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _packed(claim_no: int, task_id: str) -> bytes:
    return _LEG.pack(claim_no, bytes.fromhex(task_id.replace("-", "")))


def _size(count: int) -> int:
    return _HEADER.size + count * _RECORD.size + _MOST_CANCELLED * _LEG.size
