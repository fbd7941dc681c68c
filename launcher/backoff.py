"""How long to wait before a process that has ended is started again: longer each time, until it has run for a while."""

from __future__ import annotations

import time
from dataclasses import dataclass

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_STEADY_SECONDS = 60.0  # a process that ran this long starts again with the first delay


@dataclass
class Backoff:
    """The delays of one service or server. Times are those of the monotonic clock."""

    #: Seconds until the next start, after the next end.
    delay: float = _FIRST_DELAY
    started_at: float = 0.0
    #: When it is to be started again; None: it runs, or somebody has stopped it.
    start_at: float | None = None

    def started(self) -> None:
        """Note that it runs."""
        self.started_at, self.start_at = time.monotonic(), None

    def ended(self) -> float:
        """Note that it ran and has ended; returns how many seconds it waits."""
        if time.monotonic() - self.started_at > _STEADY_SECONDS:
            self.delay = _FIRST_DELAY
        return self.put_off()

    def put_off(self) -> float:
        """Make it wait; returns for how many seconds."""
        delay, self.delay = self.delay, min(2 * self.delay, _LONGEST_DELAY)
        self.start_at = time.monotonic() + delay
        return delay
