"""Objects that every process makes for itself, on first use, because threads and connections do not survive a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class OncePerProcess(Generic[T]):
    """Gives each process an object of its own.

    Args:
        make: called once in each process that asks.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._pid = 0
        self._made: T | None = None

    def __call__(self) -> T:
        """This process's object."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._made = self._make()
                    self._pid = os.getpid()
        return cast("T", self._made)

    @property
    def is_made(self) -> bool:
        """Whether this process has made its object."""
        return self._pid == os.getpid()

    def forget(self) -> None:
        """Make another object the next time."""
        self._pid = 0
