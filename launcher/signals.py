"""Ctrl-C, SIGTERM and a closed terminal: each is noted, and acted on between two steps.

A handler raises nothing, because a process that was just started must first be written into the record.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from ledgerq_shared.process.signals import treat_as_sigterm

if TYPE_CHECKING:
    from types import FrameType


class StopRequest:
    """Set by the first signal; the second asks to hurry."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.hurry = False

    def listen(self) -> None:
        """Take over the signals of this process; an ignored SIGHUP (nohup) stays ignored."""
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)
        treat_as_sigterm()

    def asked(self) -> bool:
        """True from the first signal on."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for a signal; True when one has come."""
        return self._asked.wait(seconds)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.hurry = self.asked()
        self._asked.set()
