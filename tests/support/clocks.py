"""A clock that a test moves."""

from __future__ import annotations


class Clock:
    """Seconds, as of a monotonic clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.now
