"""The skeleton of every maintenance duty: small batches, repeated until there is nothing left to do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from ledgerq_shared.errors import Unavailable
from ledgerq_worker.maintenance.metrics import DutyMetrics

log = structlog.get_logger()

#: A duty that always finds more work lets the others run after this many seconds, and goes on after their turn.
_TURN = 0.5


class Duty(Protocol):
    """Something that maintenance does again and again."""

    name: str
    #: Seconds from one round to the next; a duty may set it in each round. Infinite: until the duty is brought forward.
    every: float

    def run_once(self) -> int:
        """Do one batch; returns how much was done, 0 if nothing is left."""


@dataclass
class Round:
    """A duty with its schedule."""

    duty: Duty
    due_at: float = 0.0
    failures: int = field(default=0)

    def __post_init__(self) -> None:
        self._metrics = DutyMetrics(self.duty.name)

    def run_if_due(self, now: float) -> None:
        """Run the duty until a batch does nothing or its turn is over. After a failure, which is logged, it is tried
        again at its next time.
        """
        if now < self.due_at:
            return
        done, batch, begun = 0, 0, time.monotonic()
        try:
            while True:
                batch = self.duty.run_once()
                done += batch
                if not batch or time.monotonic() - begun > _TURN:
                    break
            self.failures = 0
        except Unavailable as error:
            if not error.is_busy:
                raise
            batch = 0
            self.failures += 1  # it concerns this duty only: a lock that somebody holds, for example
            self._metrics.failed()
            log.warning(f"maintenance.{self.duty.name}.busy", failures=self.failures, error=error.detail)
        except Exception:
            batch = 0
            self.failures += 1
            self._metrics.failed()
            log.exception(f"maintenance.{self.duty.name}.failed", failures=self.failures)
        self._metrics.went_round(time.monotonic() - begun, done)
        if done:
            log.info(f"maintenance.{self.duty.name}", done=done)
        self.due_at = time.monotonic() + (0.0 if batch else self.duty.every)

    def bring_forward(self) -> None:
        """Make the duty due now, because there is work for it."""
        self.due_at = 0.0
