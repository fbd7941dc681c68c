"""Threads that many callers share: no caller has more than a few of them at a time, and all take turns.

An owner whose turns are all in use, with more work waiting, keeps the server behind these threads busy with as much as it
can do at once. If a piece of such work takes long, the turn rests before its next piece, so that all turns of one owner
together take about one of that server's processors.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ledgerq_shared.process.timers import later

T = TypeVar("T")

#: Work that took no longer than this is followed by no rest, and no rest is longer than that. In seconds.
_QUICK, _LONGEST_REST = 0.01, 1.0


class Turns:
    """A pool of threads.

    Args:
        threads: how many there are.
        each: how many of them one owner may have at a time.
        name: the names of its threads begin so.
        clock: monotonic, in seconds.
        later: calls a function after a number of seconds.
    """

    def __init__(
        self,
        threads: int,
        *,
        each: int,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], object] = later,
    ) -> None:
        self._clock = clock
        self._later = later
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._each = each
        self._lock = threading.Lock()
        self._owners: dict[str, _Owner] = {}

    def submit(self, owner: str, work: Callable[[], T]) -> Future[T]:
        """A future for what ``work`` returns. If you cancel it, the work does not begin; work that has begun goes on,
        and keeps its thread.
        """
        future: Future[T] = Future()
        with self._lock:
            found = self._owners.get(owner)
            if found is None:
                found = self._owners[owner] = _Owner()
            found.waiting.append((future, work))
            has_turn = found.running < self._each
            if has_turn:
                found.running += 1
                found.unserved += 1
        if has_turn:
            self._pool.submit(self._take_turn, owner, found)
        return future

    def close(self) -> None:
        """Begin no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _take_turn(self, name: str, owner: _Owner) -> None:
        with self._lock:
            owner.unserved -= 1
            future, work = owner.waiting.popleft()
        begun = self._clock()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
        with self._lock:
            goes_on = len(owner.waiting) > owner.unserved
            if goes_on:
                owner.unserved += 1
            else:
                owner.running -= 1
                if not owner.running:
                    del self._owners[name]
        if not goes_on:
            return
        took = self._clock() - begun
        if took > _QUICK:
            self._later(min(took * (self._each - 1), _LONGEST_REST), partial(self._go_on, name, owner))
        else:
            self._go_on(name, owner)

    def _go_on(self, name: str, owner: _Owner) -> None:
        """Queue for a thread, behind all others that wait for one."""
        with contextlib.suppress(RuntimeError):  # closed
            self._pool.submit(self._take_turn, name, owner)


class _Owner:
    def __init__(self) -> None:
        #: How many turns the owner has: each does one piece of work and then, if there is more, queues again.
        self.running = 0
        #: How many of these have not taken their work yet.
        self.unserved = 0
        self.waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
