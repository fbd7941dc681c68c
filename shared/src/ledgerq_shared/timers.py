"""Does something, from another thread, about work that takes too long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def if_longer_than(seconds: float | None, action: Callable[[], object]) -> Iterator[None]:
    """Call ``action``, in another thread, if the block takes longer than ``seconds``; None: it may take any time."""
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
