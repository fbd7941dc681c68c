"""Log lines about what strangers do: they come often enough to be seen, but never so often that they fill a disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()


class SampledLog:
    """Writes at most one line in ``every`` seconds for each kind of event, and says how many it stands for.

    Args:
        every: seconds.
        clock: the monotonic clock.
    """

    def __init__(self, *, every: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        #: By kind: when the next line may be written, and how many events had no line since the last one.
        self._kinds: dict[str, tuple[float, int]] = {}

    def note(self, event: str, kind: str, **fields: Any) -> None:
        """Note an event.

        Args:
            event: what the line says, such as ``api.refused``.
            kind: what is counted together; one of a few fixed words, never text from a caller.
            fields: further fields of the line; they are those of the event that causes the line.
        """
        now = self._clock()
        silent_until, unsaid = self._kinds.get(kind, (0.0, 0))
        if now < silent_until:
            self._kinds[kind] = (silent_until, unsaid + 1)
            return
        self._kinds[kind] = (now + self._every, 0)
        log.warning(event, kind=kind, times=unsaid + 1, **fields)
