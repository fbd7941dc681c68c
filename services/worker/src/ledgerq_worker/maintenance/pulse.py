"""Tells a process that stood still (SIGSTOP, a frozen container) from one that is only busy."""

from __future__ import annotations

import threading
import time

import structlog

log = structlog.get_logger()

#: Looks at the clock within the time that may be lost unnoticed.
_LOOKS = 4


class Pulse:
    """A thread that does nothing but look at the clock. However long a statement takes, it goes on; if it did not, the
    whole process stood still, and whatever froze it may have frozen workers, too.

    Args:
        patience: seconds that may be lost without a worker losing its lease.
    """

    def __init__(self, patience: float = 5.0) -> None:
        self.patience = patience
        self._lock = threading.Lock()
        self._looked_at = self._awake_since = time.monotonic()

    def start(self) -> None:
        """Begin to look, until the end of the process."""
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def awake_since(self) -> float:
        """Since when this process has not stood still, by the monotonic clock.

        Who asks is a look, too: after a standstill nobody can be faster than it is noticed.
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
