"""The messages of a worker's parent to its lease agent: lines on a pipe."""

from __future__ import annotations

import os
import select


class Lines:
    """A call returns the lines that arrive within this many seconds; None if the pipe is closed."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._rest = b""

    def __call__(self, seconds: float) -> list[str] | None:
        """The lines that have arrived, at the latest after ``seconds``."""
        if not select.select([self._handle], [], [], seconds)[0]:
            return []
        chunk = os.read(self._handle, 4096)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode() for line in lines]


def first_line(handle: int) -> bytes:
    """Read the first line byte by byte, so that what follows it does not vanish in a buffer."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(handle, 1)):
        line += byte
    return line
