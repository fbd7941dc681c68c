"""What the API's processes had in memory, several times a second."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY = 0.2


class Memory:
    """Samples while the context lasts. ``processes`` is asked for the pids of the API."""

    def __init__(self, processes: Callable[[], list[int]]) -> None:
        self._processes = processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: By pid, the most bytes of resident memory.
        self.most: dict[int, int] = {}
        self.samples = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pids = self._processes()
        while not self._ended.wait(_EVERY):
            for pid in pids:
                try:
                    used = psutil.Process(pid).memory_info().rss
                except psutil.NoSuchProcess:
                    with contextlib.suppress(OSError, AssertionError, psutil.Error):
                        pids = self._processes()  # another has taken its place
                    break
                self.most[pid] = max(self.most.get(pid, 0), used)
                self.samples += 1
