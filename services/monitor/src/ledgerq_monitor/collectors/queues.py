"""Queues: how much waits and for how long, what workers hold, and how many slots serve each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import ClassVar

from prometheus_client.core import Metric as Family

from ledgerq_monitor.collectors.collector import Ledger, Names
from ledgerq_shared.process.metrics import Metric
from ledgerq_shared.statements.read_metrics import QueueGauges, count_held, read_queue_gauges

_QUEUE = ("queue",)
_READY = Metric("ledgerq_queue_ready_tasks", "gauge", "Tasks that may run now and wait for a worker.", _QUEUE)
_OLDEST = Metric(
    "ledgerq_queue_oldest_ready_seconds", "gauge", "For how long the oldest of the ready tasks could have run.", _QUEUE
)
_CLAIMED = Metric("ledgerq_queue_claimed_tasks", "gauge", "Tasks in workers' hands.", _QUEUE)
_OLDEST_CLAIM = Metric(
    "ledgerq_queue_oldest_claim_seconds", "gauge", "For how long a worker has been at the oldest claim.", _QUEUE
)
_SLOTS = Metric("ledgerq_queue_slots", "gauge", "Slots of live workers that serve the queue.", _QUEUE)
_PAUSED = Metric("ledgerq_queue_paused", "gauge", "Whether the queue is paused (1) or not (0).", _QUEUE)
_HELD = Metric(
    "ledgerq_queue_held_tasks",
    "gauge",
    "Tasks that wait for a time, a retry's delay, a limit or a worker that knows their type; of 100,000 at most.",
    ("queue", "reason"),
)


class Queues:
    """All queues that were ever used.

    Args:
        most_names: further queues are added up as ``other``.
    """

    name = "queues"
    metrics: ClassVar[tuple[Metric, ...]] = (_READY, _OLDEST, _CLAIMED, _OLDEST_CLAIM, _SLOTS, _PAUSED)
    patience = 1

    def __init__(self, ledger: Ledger, *, most_names: int) -> None:
        self._ledger = ledger
        self._names = Names(most_names)
        #: The queues of the last look: the broker's collector counts their tickets.
        self.known: tuple[str, ...] = ()

    def collect(self) -> Iterable[Family]:
        """Read all queues with one statement."""
        rows = self._ledger.fetch_old(read_queue_gauges())
        self.known = tuple(sorted({row.queue for row in rows if self._names(row.queue) == row.queue}))
        by_queue: dict[tuple[str, ...], list[QueueGauges]] = {}
        for row in rows:
            by_queue.setdefault((self._names(row.queue),), []).append(row)

        def of(
            combine: Callable[[Iterable[float]], float], figure: Callable[[QueueGauges], float]
        ) -> dict[tuple[str, ...], float]:
            return {labels: float(combine(map(figure, rows))) for labels, rows in by_queue.items()}

        return [
            _PAUSED.family(of(max, lambda row: row.is_paused)),
            _SLOTS.family(of(sum, lambda row: row.slots)),
            _READY.family(of(sum, lambda row: row.ready)),
            _OLDEST.family(of(max, lambda row: row.oldest_ready_seconds)),
            _CLAIMED.family(of(sum, lambda row: row.claimed)),
            _OLDEST_CLAIM.family(of(max, lambda row: row.oldest_claim_seconds)),
        ]


class Held:
    """Tasks that wait for something other than a worker."""

    name = "held"
    metrics: ClassVar[tuple[Metric, ...]] = (_HELD,)
    patience = 2

    def __init__(self, ledger: Ledger, *, most_names: int) -> None:
        self._ledger = ledger
        self._names = Names(most_names)

    def collect(self) -> Iterable[Family]:
        """Count them, up to a limit."""
        held: Counter[tuple[str, ...]] = Counter()
        for queue, reason, count in self._ledger.fetch_old(count_held()):
            held[self._names(queue), reason] += count
        return [_HELD.family(held)]
