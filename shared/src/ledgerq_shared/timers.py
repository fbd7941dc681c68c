"""What is done, from outside, about something that takes too long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def if_longer_than(seconds: float | None, action: Callable[[], object]) -> Iterator[None]:
    """Do ``action``, in another thread, if this takes longer than so many seconds; None: it may."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
