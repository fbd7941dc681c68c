"""The only way to wake workers: the code that made tasks ready says how many and in which queues, and need not know
about slots.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ledgerq_shared import outages
from ledgerq_shared.broker import Broker, Demand
from ledgerq_shared.process.batching import Batcher
from ledgerq_shared.process.timers import later
from ledgerq_shared.statements.dispatch import QueueSlots

#: Seconds for which the known number of worker slots is used; it is asked for only when there is something to send.
_SLOTS_ARE_FRESH = 2.0
#: Seconds after which Redis is asked again whether it answers. Without that, a process that has nothing more to send
#: would go on saying that Redis is away.
_ASK_AGAIN_AFTER = 1.0


class Waker:
    """Sends tickets in a thread of its own, so that no caller waits for Redis. A failure is harmless, because the sweep
    finds the tasks.

    It belongs to one process: after a fork, make another one.

    Args:
        look_up: asks for :func:`~ledgerq_shared.statements.dispatch.slots_by_queue`; called in that thread.
    """

    def __init__(self, look_up: Callable[[], Sequence[QueueSlots]], broker: Broker) -> None:
        self._look_up = look_up
        self._broker = broker
        self._slots: dict[str, tuple[int, int]] = {}
        self._slots_at = float("-inf")
        self._is_asking = False
        self._batcher: Batcher[Mapping[str, int], None] = Batcher(self._send, max_items=10_000, name="waker")

    def wake(self, ready: Mapping[str, int]) -> None:
        """Wake workers for tasks that have become ready: their number, by queue. Returns at once; may be called from
        any thread.
        """
        if ready:
            self._batcher.submit(ready)

    def close(self, timeout: float = 2.0) -> None:
        """Send what is pending, and disconnect."""
        self._batcher.close(timeout)
        self._broker.close()

    def _send(self, batches: Sequence[Mapping[str, int]]) -> list[None]:
        total: Counter[str] = Counter()
        for batch in batches:
            total.update(batch)
        if total:
            slots = self._known_slots()
            is_sent = self._broker.wake(*(Demand(one, ready, *slots.get(one, (0, 0))) for one, ready in total.items()))
        else:
            self._is_asking = False
            is_sent = self._broker.ping()
        if not is_sent and not self._is_asking:
            self._is_asking = True
            later(_ASK_AGAIN_AFTER, self._ask)
        return [None] * len(batches)

    def _ask(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is closed
            self._batcher.submit({})

    def _known_slots(self) -> dict[str, tuple[int, int]]:
        if time.monotonic() - self._slots_at > _SLOTS_ARE_FRESH:
            try:
                self._slots = {one.queue: (one.slots, one.old_slots) for one in self._look_up()}
            except Exception as error:  # the last known numbers are near enough
                outages.note("waker.slots_unknown", error)
            self._slots_at = time.monotonic()
        return self._slots
