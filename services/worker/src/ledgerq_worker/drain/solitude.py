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

        def can_begin() -> bool:
            return not (self._running if is_suspect else self._suspects)

        if not can_begin():
            before_waiting()
        with self._changed:
            self._suspects += is_suspect
            self._changed.wait_for(can_begin)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._suspects -= is_suspect
                self._changed.notify_all()
