"""Distinguishes a process that stood still (SIGSTOP, a frozen container) from one that is only busy."""

from __future__ import annotations

import threading
import time

import structlog

log = structlog.get_logger()

#: How often the clock is read within the time that may be lost unnoticed.
_LOOKS = 4


class Pulse:
    """A thread that does nothing but read the clock. It goes on however long a statement takes. If it did not go on,
    the whole process stood still, and what froze the process may have frozen workers, too.

    Args:
        patience: seconds that may be lost without a worker losing its lease.
    """

    def __init__(self, patience: float = 5.0) -> None:
        self.patience = patience
        self._lock = threading.Lock()
        self._looked_at = self._awake_since = time.monotonic()

    def start(self) -> None:
        """Start to read the clock, until the end of the process."""
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def awake_since(self) -> float:
        """The time since which this process has not stood still, by the monotonic clock.

        A call reads the clock, too: after a standstill no caller can come before the standstill is noticed.
        """
        with self._lock:
            now = time.monotonic()
            lost = now - self._looked_at
            if lost > self.patience:
                log.warning("maintenance.time_was_lost", seconds=round(lost, 1))
                self._awake_since = now
            self._looked_at = now
            return self._awake_since

    def _beat(self) -> None:
        while True:
            time.sleep(self.patience / _LOOKS)
            self.awake_since()
