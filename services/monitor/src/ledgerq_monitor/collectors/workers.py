"""Worker nodes: their slots, how many are busy, when each was last heard of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from prometheus_client.core import Metric as Family

from ledgerq_monitor.collectors.collector import Ledger
from ledgerq_shared.process.metrics import Metric
from ledgerq_shared.statements.read_metrics import count_ended_workers, read_worker_gauges

_WORKER = ("worker",)
_WORKERS = Metric(
    "ledgerq_workers",
    "gauge",
    "Workers that have not ended: live, stopping, or overdue (their lease is over and nobody has declared them dead).",
    ("state",),
)
_SLOTS = Metric("ledgerq_workers_slots", "gauge", "Slots of a worker: how many tasks it runs at once.", _WORKER)
_BUSY = Metric("ledgerq_workers_busy_slots", "gauge", "Slots of a worker that hold tasks.", _WORKER)
_HEARTBEAT = Metric(
    "ledgerq_workers_heartbeat_age_seconds", "gauge", "Time since a worker renewed its lease in the ledger.", _WORKER
)
_ENDED = Metric(
    "ledgerq_workers_ended",
    "gauge",
    "Workers that ended within a day: stopped, or lost (declared dead).",
    ("reason",),
)

#: How many workers have series of their own; all are counted.
_MOST = 500
_MOST_COUNTED = 5000


class Workers:
    """The workers that have not ended."""

    name = "workers"
    metrics: ClassVar[tuple[Metric, ...]] = (_WORKERS, _SLOTS, _BUSY, _HEARTBEAT)
    patience = 1

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Family]:
        """Read them with one statement."""
        workers = self._ledger.fetch(read_worker_gauges(limit=_MOST_COUNTED))
        states = {("live",): 0, ("stopping",): 0, ("overdue",): 0}
        for one in workers:
            states[("overdue" if one.lease_seconds < 0 else "stopping" if one.is_stopping else "live",)] += 1
        shown = workers[:_MOST]
        return [
            _WORKERS.family(states),
            _SLOTS.family({(one.name,): one.slots for one in shown}),
            _BUSY.family({(one.name,): one.busy_slots for one in shown}),
            _HEARTBEAT.family({(one.name,): max(one.heartbeat_age, 0.0) for one in shown}),
        ]


class EndedWorkers:
    """The workers that ended within the last day."""

    name = "ended_workers"
    metrics: ClassVar[tuple[Metric, ...]] = (_ENDED,)
    patience = 6

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Family]:
        """Count them by how they ended."""
        ended = {("stopped",): 0, ("lost",): 0}
        ended.update({(why,): count for why, count in self._ledger.fetch(count_ended_workers())})
        return [_ENDED.family(ended)]
