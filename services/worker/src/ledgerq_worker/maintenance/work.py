"""All duties except recovery run in a thread of their own: whatever they wait for, the lease is renewed and lost nodes
are recovered.
"""

from __future__ import annotations

import threading
import time

from ledgerq_shared import outages
from ledgerq_shared.errors import Unavailable
from ledgerq_worker.maintenance.leader import Leadership
from ledgerq_worker.maintenance.loop import Round

_TRY_AGAIN_AFTER = 0.5


class Work:
    """Runs duties in turn while this process leads.

    Args:
        rounds: each has its own schedule.
    """

    def __init__(self, leadership: Leadership, rounds: list[Round]) -> None:
        self._leadership = leadership
        self._rounds = rounds
        self._nudged = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="work", daemon=True)
        #: When the present turn began, by the monotonic clock; None: there is none.
        self.busy_since: float | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def nudge(self, *, first: bool = False) -> None:
        """Wake the thread, because this process leads now, or (``first``) because the first duty has something to
        do.
        """
        if first:
            self._rounds[0].bring_forward()
        self._nudged.set()

    def stop(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until the running duty has ended."""
        self._is_over = True
        self._nudged.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._is_over:
            self._nudged.clear()
            self.busy_since = time.monotonic()
            pause = self._turn()
            self.busy_since = None
            self._nudged.wait(pause)

    def _turn(self) -> float | None:
        """Run the duties that are due; returns after how many seconds the next duty is due, None: not before
        :meth:`nudge` is called.
        """
        if not self._leadership.is_leading:
            return None
        try:
            for one in self._rounds:
                one.run_if_due(time.monotonic())
        except Unavailable as error:
            outages.note("maintenance.ledger_unavailable", error)
            return _TRY_AGAIN_AFTER
        return max(0.0, min(one.due_at for one in self._rounds) - time.monotonic())
