"""Tickets for workers, sent after the commit by a thread of their own: no answer waits for Redis."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from ledgerq_api.ledger import Ledger
from ledgerq_shared.batching import Batcher
from ledgerq_shared.broker import Broker
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.statements.dispatch import slots_by_queue

#: Seconds for which the number of worker slots is believed; only busy times ask for it at all.
_SLOTS_ARE_FRESH = 2.0


class Wakeups:
    """Tells workers that queues have work. A failure is harmless: the dispatcher's sweep finds the tasks."""

    def __init__(self, ledger: Ledger, broker: Broker) -> None:
        self._ledger = ledger
        self._broker = broker
        self._slots: dict[str, int] = {}
        self._slots_at = float("-inf")
        self._batcher: Batcher[Mapping[str, int], None] = Batcher(self._send, max_items=10_000, name="wakeups")

    def send(self, ready: Mapping[str, int]) -> None:
        """So many tasks have become ready, by queue. Returns at once; may be called from any thread."""
        if ready:
            self._batcher.submit(ready)

    def close(self) -> None:
        """Send what is pending."""
        self._batcher.close(timeout=2.0)

    def _send(self, batches: Sequence[Mapping[str, int]]) -> list[None]:
        total: Counter[str] = Counter()
        for batch in batches:
            total.update(batch)
        slots = self._known_slots()
        for queue, ready in total.items():
            self._broker.wake(queue, ready, slots.get(queue, 0))
        return [None] * len(batches)

    def _known_slots(self) -> dict[str, int]:
        if time.monotonic() - self._slots_at > _SLOTS_ARE_FRESH:
            with contextlib.suppress(Unavailable):  # the last known numbers are near enough
                self._slots = dict(self._ledger.rows(slots_by_queue()))
            self._slots_at = time.monotonic()
        return self._slots
