"""Poll with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")

#: The longer it waits, the more rarely it asks: by this part of what it has waited, up to this many seconds. Most answers
#: cost a connection to PostgreSQL: 10 ms of the processors that the others wait for.
_PART = 0.05
_AT_MOST = 0.2


def until(
    predicate: Callable[[], Answer],
    timeout: float = 30.0,
    *,
    interval: float | None = None,
    what: str | Callable[[], str] = "",
) -> Answer:
    """Return the first true answer of ``predicate``; raises ``AssertionError`` after ``timeout`` seconds.

    ``interval`` is the time between two questions, in seconds; None: 0.02 at first, more when it takes long. ``what``
    (text, or a function asked only on failure) says what was waited for.
    """
    started = time.monotonic()
    deadline = started + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            detail = what() if callable(what) else what
            raise AssertionError(f"not within {timeout:g} s: {detail or predicate}; last answer: {answer!r}")
        time.sleep(interval if interval is not None else _pause(time.monotonic() - started))


def _pause(waited: float) -> float:
    return min(max(0.02, waited * _PART), _AT_MOST)
