"""Finds slots that stand still for long although their process lives: it is blocked in a descriptor, or in a lock that
nobody releases, or by a thread that never releases the GIL, or it is stopped by a signal. The agent must not renew a
lease for such slots for ever.

There are three kinds. A slot that works on a ticket and runs no task writes into the slot table by when it will give
another sign: the lease agent sees a slot that gives none. The agent also sees a process that is stopped. The parent
sees an idle process that does not take a ticket that was written to it.

A task's own code is never judged here; it may take as long as it likes. Looks are counted in addition to the time, so
that an observer that was frozen together with the slot draws no wrong conclusion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import structlog

from ledgerq_worker.node.killing import kill_if
from ledgerq_worker.slot.table import SlotRecord, SlotTable

log = structlog.get_logger()

#: How many looks in a row must find the same, in addition to the time.
_LOOKS = 3
#: A process that is ready accepts a ticket within milliseconds. If it has not accepted one after this many looks (one
#: every half second), it stands still.
_UNACCEPTED_LOOKS = 40


class Standstill:
    """Decides from a series of looks which slots stand still.

    Args:
        stopped_for: a process that a signal has stopped for this many seconds stands still, whatever it does.
    """

    def __init__(self, *, stopped_for: float) -> None:
        self._stopped_for = stopped_for
        #: By slot: what was found, since when, and in how many looks in a row.
        self._found: dict[int, tuple[object, float, int]] = {}

    def look(self, records: Iterable[SlotRecord], now: float, *, is_stopped: Callable[[int], bool]) -> list[SlotRecord]:
        """The slots that stand still.

        Args:
            now: by the monotonic clock.
            is_stopped: says of a process whether a signal has stopped it.
        """
        found: dict[int, tuple[object, float, int]] = {}
        standing: list[SlotRecord] = []
        for record in records:
            what: tuple[object, ...]
            if is_stopped(record.pid):
                what, patience = ("stopped", record.pid), self._stopped_for
            elif record.is_draining and record.task_id is None and 0 < record.signs_by < now:
                what, patience = ("silent", record.pid, record.signs_by), 0.0
            else:
                continue
            before = self._found.get(record.slot)
            since, looks = (before[1], before[2] + 1) if before and before[0] == what else (now, 1)
            found[record.slot] = (what, since, looks)
            if looks >= _LOOKS and now - since >= patience:
                standing.append(record)
        self._found = found
        return standing

    def forget(self) -> None:
        """Start anew, because no slot is at fault just now."""
        self._found.clear()


class Unaccepted:
    """The parent's side: it ends pool processes that are idle and take no ticket; others replace them.

    Args:
        table: the node's.
        written: returns, for each ticket that was written to a process and that it has not accepted, the process.
        kills_programs: also end programs that tasks have left running there.
    """

    def __init__(self, table: SlotTable, written: Callable[[], Mapping[int, int]], *, kills_programs: bool) -> None:
        self._table = table
        self._written = written
        self._kills_programs = kills_programs
        self._looks: dict[tuple[int, int], int] = {}

    def look(self) -> None:
        """To be called every half second."""
        written = self._written()
        self._looks = {job: self._looks.get(job, 0) + 1 for job in written.items()}
        for (job, pid), looks in list(self._looks.items()):
            if looks < _UNACCEPTED_LOOKS:
                continue
            del self._looks[job, pid]
            if kill_if(pid, partial(self._is_still, job, pid), with_programs=self._kills_programs):
                log.error("worker.slot.stuck", pid=pid, what="the process takes no ticket: another takes its place")

    def _is_still(self, job: int, pid: int) -> bool:
        is_at_work = any(record.pid == pid and record.is_draining for record in self._table.read())
        return not is_at_work and self._written().get(job) == pid
