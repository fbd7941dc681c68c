"""Counts what the slots of a node have done, in memory that the pool's processes share with their parent.

The parent answers scrapes, its pool processes do the work: each slot adds up its own histograms here, once for a whole
flush, and the parent sums the slots. A process that takes over a slot goes on with what the slot has counted, so no
counter falls when one dies.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime

from ledgerq_shared.process.metrics import BATCH_SIZES, LONG_SECONDS, SHORT_SECONDS, Metric, Tally
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.states import State
from ledgerq_worker.slot.legs import Leg

RUN = Metric(
    "ledgerq_task_run_seconds",
    "histogram",
    "Time of an attempt's code, by what came of it: succeeded, failed, retried, revoked or replaced.",
    ("task_type", "queue", "outcome"),
    LONG_SECONDS,
)
WAIT = Metric(
    "ledgerq_task_queue_seconds",
    "histogram",
    "Time between the moment from which a task could run and its claim, by the clocks of PostgreSQL and the worker.",
    ("queue",),
    LONG_SECONDS,
)
CLAIM = Metric("ledgerq_worker_claim_tasks", "histogram", "Tasks in a claim.", ("queue",), BATCH_SIZES)
FLUSH_SECONDS = Metric(
    "ledgerq_worker_flush_seconds",
    "histogram",
    "Time of a transaction that records what ended and claims what comes next.",
    (),
    SHORT_SECONDS,
)
FLUSH_TASKS = Metric("ledgerq_worker_flush_tasks", "histogram", "Attempts recorded by it.", (), BATCH_SIZES)
REFUSED = Metric(
    "ledgerq_worker_refused_writes_total", "counter", "Writes that the ledger refused: their claim was superseded."
)

METRICS = (RUN, WAIT, CLAIM, FLUSH_SECONDS, FLUSH_TASKS, REFUSED)

_OUTCOMES = {
    State.SUCCESS: "succeeded",
    State.FAILURE: "failed",
    State.RETRY: "retried",
    State.REVOKED: "revoked",
    State.PENDING: "replaced",
}

_NUMBERS = {metric.name: number for number, metric in enumerate(METRICS)}
#: Room for the buckets of any histogram: those with bounds and the one beyond the last bound; the sum comes after them.
_BUCKETS = max(len(metric.buckets) for metric in METRICS) + 1
_VALUES = struct.Struct(f"<{_BUCKETS}d d")
_KEY = struct.Struct("<B B 254s")  # which metric, length, labels
_ENTRY = _KEY.size + _VALUES.size
_HEADER = struct.Struct("<q q")  # odd while somebody writes; entries in use
_MOST_ENTRIES = 160
#: How many entries are kept free for values that are counted together because there are too many names.
_RESERVED = 24
_REGION = _HEADER.size + _MOST_ENTRIES * _ENTRY
_TRIES = 100

#: The entry's position, its buckets, and its sum.
_Entry = tuple[int, list[float], list[float]]


class TallySheet:
    """The counts of all slots of a node. The parent makes it before its pool, which inherits it."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._map = mmap.mmap(-1, slots * _REGION)

    def slot(self, index: int) -> SlotTally:
        """The counts of one slot, to which only the process or thread that runs the slot adds."""
        return SlotTally(self._map, index * _REGION)

    def sums(self) -> dict[str, dict[tuple[str, ...], Tally]]:
        """What all slots have counted, by metric and labels."""
        found: dict[str, dict[tuple[str, ...], Tally]] = {metric.name: {} for metric in METRICS}
        for index in range(self._slots):
            region = self._snapshot(index * _REGION)
            for entry in range(_HEADER.unpack_from(region)[1]):
                number, labels, values = _read(region, _HEADER.size + entry * _ENTRY)
                metric = METRICS[number]
                before = found[metric.name].get(labels)
                counts = values[: len(metric.buckets) + 1]
                if before is not None:
                    counts = tuple(map(sum, zip(before.counts, counts, strict=True)))
                found[metric.name][labels] = Tally(counts, values[-1] + (before.total if before else 0.0))
        return found

    def _snapshot(self, start: int) -> bytes:
        """One slot's region at one moment: half of a write would look like a counter that falls."""
        region = b""
        for _ in range(_TRIES):
            begun = _HEADER.unpack_from(self._map, start)[0]
            region = self._map[start : start + _REGION]
            if not begun % 2 and _HEADER.unpack_from(self._map, start)[0] == begun:
                break
        return region


class SlotTally:
    """The counts of one slot."""

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._map = memory
        self._start = start
        self._entries: dict[tuple[int, tuple[str, ...]], _Entry] = {}
        self._written, used = _HEADER.unpack_from(memory, start)
        self._written += self._written % 2  # the predecessor died in the middle of a write
        for entry in range(used):
            at = start + _HEADER.size + entry * _ENTRY
            number, labels, values = _read(memory, at)
            self._entries[number, labels] = (at, list(values[:-1]), [values[-1]])

    def flushed(self, *, kept: Sequence[Leg], refused: int, claimed: Sequence[ClaimedTask], seconds: float) -> None:
        """Count a committed flush: what it has recorded and claimed, and how long it took."""
        if kept:
            runs: dict[tuple[str, str, State], list[float]] = {}
            for leg in kept:
                if leg.begun_at and leg.end is not None:
                    task = leg.task
                    runs.setdefault((task.task_type, task.queue, leg.end.state), []).append(leg.ended_at - leg.begun_at)
            for (task_type, queue, state), times in runs.items():
                self.add(RUN, (task_type, queue, _OUTCOMES.get(state, "other")), times)
            self.add(FLUSH_TASKS, (), (len(kept),))
        if claimed:
            self._claimed(claimed)
        if refused:
            self.add(REFUSED, (), (refused,))
        if kept or claimed:
            self.add(FLUSH_SECONDS, (), (seconds,))

    def _claimed(self, claimed: Sequence[ClaimedTask]) -> None:
        queue = (claimed[0].queue,)
        ready = [task.ready_at for task in claimed]
        now = datetime.now(UTC)
        longest, shortest = ((now - at).total_seconds() for at in (min(ready), max(ready)))
        if bisect_left(WAIT.buckets, longest) == bisect_left(WAIT.buckets, shortest):
            # Usually all values are in one bucket; then the sum does not need a look at each.
            waits = [max((longest + shortest) / 2, 0.0)] * len(ready)
        else:
            waits = [max((now - at).total_seconds(), 0.0) for at in ready]
        self.add(WAIT, queue, waits)
        self.add(CLAIM, queue, (len(claimed),))

    def add(self, metric: Metric, labels: tuple[str, ...], values: Sequence[float]) -> None:
        """Count values, which usually fall into one bucket."""
        at, counts, sums = self._entry(_NUMBERS[metric.name], labels)
        bounds = metric.buckets
        lowest, highest = bisect_left(bounds, min(values)), bisect_left(bounds, max(values))
        if lowest == highest:
            counts[lowest] += len(values)
        else:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
        sums[0] += sum(values)
        self._write(at, counts, sums[0])

    def _write(self, at: int, counts: list[float], total: float) -> None:
        _HEADER.pack_into(self._map, self._start, self._written + 1, len(self._entries))
        _VALUES.pack_into(self._map, at + _KEY.size, *counts, total)
        self._written += 2
        _HEADER.pack_into(self._map, self._start, self._written, len(self._entries))

    def _entry(self, number: int, labels: tuple[str, ...]) -> _Entry:
        entry = self._entries.get((number, labels))
        if entry is None:
            text = "\0".join(labels).encode()
            is_full = len(self._entries) >= _MOST_ENTRIES - _RESERVED
            if (len(text) > 254 or is_full) and (shorter := _anonymous(number, labels)) != labels:
                return self._entry(number, shorter)
            entry = (self._start + _HEADER.size + len(self._entries) * _ENTRY, [0.0] * _BUCKETS, [0.0])
            # Written before the count of entries includes it.
            _KEY.pack_into(self._map, entry[0], number, len(text), text)
            self._entries[number, labels] = entry
        return entry


def _anonymous(number: int, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels without names that callers may choose."""
    names = METRICS[number].labels
    return tuple("other" if name != "outcome" else value for name, value in zip(names, labels, strict=True))


def _read(memory: bytes | mmap.mmap, at: int) -> tuple[int, tuple[str, ...], tuple[float, ...]]:
    number, length, text = _KEY.unpack_from(memory, at)
    labels = tuple(text[:length].decode().split("\0")) if METRICS[number].labels else ()
    return number, labels, _VALUES.unpack_from(memory, at + _KEY.size)
