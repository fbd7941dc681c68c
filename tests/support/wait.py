"""Poll with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")


def until(
    predicate: Callable[[], Answer],
    timeout: float = 30.0,
    *,
    interval: float = 0.02,
    what: str | Callable[[], str] = "",
) -> Answer:
    """Return the first true answer of ``predicate``; raises ``AssertionError`` after ``timeout`` seconds.

    ``what`` (text, or a function asked only on failure) says what was waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            detail = what() if callable(what) else what
            raise AssertionError(f"not within {timeout:g} s: {detail or predicate}; last answer: {answer!r}")
        time.sleep(interval)
