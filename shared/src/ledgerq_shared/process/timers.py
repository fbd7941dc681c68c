"""Does something later, from another thread: always, or only if work takes too long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


def later(seconds: float, action: Callable[[], object]) -> threading.Timer:
    """Do ``action`` in another thread after this many seconds, unless the timer is cancelled before or the process
    ends.
    """
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


@contextlib.contextmanager
def if_longer_than(seconds: float | None, action: Callable[[], object]) -> Iterator[None]:
    """Call ``action``, in another thread, if the block takes longer than ``seconds``; None: it may take any time."""
    if seconds is None:
        yield
        return
    timer = later(seconds, action)
    try:
        yield
    finally:
        timer.cancel()
