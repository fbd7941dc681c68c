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
    def entered(self, *, is_suspect: bool, before_waiting: Callable[[], bool]) -> Iterator[bool]:
        """Run a task inside. False: it is not to be run, for it has been given away.

        Args:
            before_waiting: called, once, if it cannot begin at once, for the wait may be long; false: it is not to begin
                afterwards, and the place is only waited for.
        """

        def can_begin() -> bool:
            return not (self._running if is_suspect else self._suspects)

        is_kept, is_inside = True, False
        with self._changed:
            self._suspects += is_suspect
            if can_begin():
                self._running += 1
                is_inside = True
        try:
            if not is_inside:
                is_kept = before_waiting()
                with self._changed:
                    self._changed.wait_for(can_begin)
                    self._running += 1
                    is_inside = True
            yield is_kept
        finally:
            with self._changed:
                self._running -= is_inside
                self._suspects -= is_suspect
                self._changed.notify_all()
