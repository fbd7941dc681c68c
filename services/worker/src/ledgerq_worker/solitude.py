"""On a pool of threads: a crash suspect runs while nothing else runs in the process, so that the next death tells."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Solitude:
    """Lets many tasks run together, or one suspect by itself. A suspect that waits keeps others from beginning."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._suspects = 0

    @contextlib.contextmanager
    def entered(self, *, is_suspect: bool, before_waiting: Callable[[], None]) -> Iterator[None]:
        """Run a task inside; ``before_waiting`` is called if it cannot begin at once."""
        if not self._can_enter(is_suspect):
            before_waiting()
        with self._changed:
            self._suspects += is_suspect
            self._changed.wait_for(lambda: not self._running if is_suspect else not self._suspects)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._suspects -= is_suspect
                self._changed.notify_all()

    def _can_enter(self, is_suspect: bool) -> bool:
        return not (self._running or self._suspects) if is_suspect else not self._suspects
