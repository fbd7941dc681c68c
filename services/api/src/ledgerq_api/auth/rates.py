"""How many requests a key may make: a token bucket."""

from __future__ import annotations


class Bucket:
    """Fills with ``rate`` tokens a second up to ``burst``; each request takes one.

    Args:
        now: seconds of a monotonic clock, as in :meth:`take`.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> float:
        """Take a token; returns 0, or the seconds until there is one."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0
