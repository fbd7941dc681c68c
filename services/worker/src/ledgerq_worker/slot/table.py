"""What each pool slot is doing, in a small shared file that outlives the processes that write it.

The slot's process writes; the lease agent reads, and after a death the process that cleans up reads. So a task that
holds the GIL for half a minute can neither hide its deadline nor starve the heartbeat, and after a crash it is known
which task was running.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self
from uuid import UUID

from ledgerq_worker.slot.file import SlotFile, make_file

#: Worker id, stopping, deaf, number of cancelled legs, tickets taken, watched, suspects, the agent's outages, lease held
#: until, asides until.
_HEADER = struct.Struct("<16s B B H I B B B 5x d d 16x")
_COUNT = struct.Struct("<H")
_COUNT_AT = 18
_WATCHED_AT = 24
_SUSPECTS_AT = 25
_OUTAGES_AT = 26
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
#: Of each slot: the claim of which the list behind it has the tasks that have begun, and how many these are.
_BEGUN = struct.Struct("<q H 6x")
_TASK = 16
#: How many tasks that list has room for. The largest claim has more only if it is set so.
_MOST_BEGUN = 512
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


class SlotTable(SlotFile):
    """What is in the shared file. Read and written by whatever process, without a lock."""

    def __init__(self, path: Path, count: int, handle: int | None = None) -> None:
        super().__init__(path, _size(count), handle)
        self.count = count

    @classmethod
    def create(cls, count: int) -> Self:
        """A new table for ``count`` slots.

        Raises:
            SettingsError: there is room for it in no folder.
        """
        path, handle = make_file(_size(count))
        table = cls(path, count, handle)
        table.held_until = math.inf  # until an agent renews a lease
        return table

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

    @property
    def agent_outages(self) -> frozenset[int]:
        """The outages that the agent knows of (:func:`ledgerq_shared.outages.numbers`)."""
        return frozenset(number for number in range(8) if self._map[_OUTAGES_AT] >> number & 1)

    @agent_outages.setter
    def agent_outages(self, numbers: frozenset[int]) -> None:
        self._map[_OUTAGES_AT] = sum(1 << number for number in numbers)

    def occupant(self, index: int) -> int:
        """The process that runs this slot, or that died in it and has not been cleared away; 0: none."""
        return int(_PID.unpack_from(self._map, self._at(index))[0])

    def enter(self, index: int, pid: int) -> None:
        """Note that ``pid`` works on a ticket in this slot from now on; 0: no process does."""
        signs_by = time.monotonic() + SIGNS_WITHIN
        _RECORD.pack_into(self._map, self._at(index), pid, pid != 0, 0, 0, _NOBODY, 0.0, 0.0, _NO_LEG, signs_by)
        self.forget_begun(index)

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

    def list_begun(self, index: int, claim_no: int, task_id: str) -> bool:
        """List a task whose code is about to begin. The list stays when it has ended, until a task of another claim
        begins. False: there is no room.
        """
        at = self._begun_at(index)
        listed, count = _BEGUN.unpack_from(self._map, at)
        if listed != claim_no:
            count = 0
        if count >= _MOST_BEGUN:
            return False
        start = at + _BEGUN.size + count * _TASK
        self._map[start : start + _TASK] = bytes.fromhex(task_id.replace("-", ""))
        _BEGUN.pack_into(self._map, at, claim_no, count + 1)
        return True

    def forget_begun(self, index: int) -> None:
        """Empty that list: the ledger has the ends of these tasks."""
        _BEGUN.pack_into(self._map, self._begun_at(index), 0, 0)

    def begun(self, index: int | None = None) -> list[tuple[int, str]]:
        """What the list of this slot has (None: of all slots), as ``(claim number, task id)``."""
        slots = range(self.count) if index is None else [index]
        return [pair for slot in slots for pair in self._begun_in(slot)]

    def _begun_in(self, index: int) -> Iterator[tuple[int, str]]:
        at = self._begun_at(index)
        claim_no, count = _BEGUN.unpack_from(self._map, at)
        for start in range(at + _BEGUN.size, at + _BEGUN.size + count * _TASK, _TASK):
            yield claim_no, str(UUID(bytes=self._map[start : start + _TASK]))

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

    def _begun_at(self, index: int) -> int:
        return _size_of_legs(self.count) + index * (_BEGUN.size + _MOST_BEGUN * _TASK)


def _packed(claim_no: int, task_id: str) -> bytes:
    return _LEG.pack(claim_no, bytes.fromhex(task_id.replace("-", "")))


def _size_of_legs(count: int) -> int:
    return _HEADER.size + count * _RECORD.size + _MOST_CANCELLED * _LEG.size


def _size(count: int) -> int:
    return _size_of_legs(count) + count * (_BEGUN.size + _MOST_BEGUN * _TASK)
