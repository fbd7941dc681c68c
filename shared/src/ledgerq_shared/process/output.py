"""Standard output and error of a service, for lines that may get lost: a write never raises and never waits for long.

Everything else that a service does is more important than its log. The log's reader may have died (EPIPE), its disk may
be full (ENOSPC), somebody may have closed it, or may no longer read it: then lines are lost, and everything else goes
on.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import sys
from typing import Any, TextIO

from ledgerq_shared.process.descriptors import identity

#: How long one write may wait for the reader of the log, in seconds. There is no further wait for a reader that does
#: not read.
_PATIENCE = 1.0
#: A pipe that has room at all has room for this many bytes.
_PIECE = select.PIPE_BUF


class Output(io.RawIOBase):
    """A file descriptor to which writing always succeeds.

    Args:
        handle: the descriptor. Only the file that it stands for now is written to: a task may close the descriptor
            behind our back, and the next connection to PostgreSQL gets its number.
    """

    def __init__(self, handle: int) -> None:
        super().__init__()
        #: How many writes were lost so far.
        self.lost = 0
        self._handle = handle
        self._file = identity(handle)
        self._patience = _PATIENCE
        # A file takes all of a line at once, so that lines of several processes do not get mixed.
        self._piece = None if self._file is not None and stat.S_ISREG(os.fstat(handle).st_mode) else _PIECE

    def write(self, data: Any, /) -> int:
        """Write all of it, or lose it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self._is_ready():
                rest = rest[os.write(self._handle, rest[: self._piece]) :]
        except OSError:
            pass
        if rest:
            self.lost += 1
        return size

    def _is_ready(self) -> bool:
        if self._file is None or identity(self._handle) != self._file:
            return False
        poll = select.poll()
        poll.register(self._handle, select.POLLOUT)
        is_ready = bool(poll.poll(self._patience * 1000))
        self._patience = _PATIENCE if is_ready else 0.0
        return is_ready

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._handle

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._handle)

    def close(self) -> None:
        """Leave the descriptor open: it is the process's, not this object's."""


def guard() -> None:
    """Make sure that nothing in this process fails because its output cannot be written, not even a task that
    prints.
    """
    for handle in (0, 1, 2):
        _make_sure_it_is_open(handle)
    sys.stdout = sys.__stdout__ = _guarded(sys.stdout, 1)  # type: ignore[assignment,misc]
    sys.stderr = sys.__stderr__ = _guarded(sys.stderr, 2)  # type: ignore[assignment,misc]


def plain(stream: TextIO) -> TextIO:
    """What ``stream`` writes to in the end, where the log's own lines go (:mod:`ledgerq_shared.process.logging.prints`)."""
    return getattr(stream, "plain", stream)


def of(stream: TextIO) -> Output | None:
    """The guarded output behind a stream; None: it is not guarded, because it is a test's, for example."""
    raw: object = getattr(plain(stream), "buffer", None)
    return raw if isinstance(raw, Output) else None


def tell(line: str) -> None:
    """Write a line for the person who has started this process, as it is, whatever becomes of other prints."""
    plain(sys.stderr).write(f"{line}\n")


def lost_writes() -> int:
    """How many writes to standard error have been lost so far."""
    guarded = of(sys.stderr)
    return 0 if guarded is None else guarded.lost


def _guarded(stream: TextIO | None, handle: int) -> TextIO:
    """``stream`` itself if it is not the process's own (but a test's, for example), or if it is guarded already."""
    if stream is not None:
        try:
            is_own = stream.fileno() == handle
        except (OSError, ValueError):  # it is in memory, or closed
            is_own = stream.closed
        if not is_own or of(stream) is not None:
            return stream
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    encoding = "utf-8" if stream is None else stream.encoding
    return io.TextIOWrapper(Output(handle), encoding=encoding, errors="backslashreplace", line_buffering=True)  # type: ignore[type-var]


def _make_sure_it_is_open(handle: int) -> None:
    """Otherwise the next file or connection that is opened gets the number, and with it everything that is printed."""
    if identity(handle) is None and os.open(os.devnull, os.O_RDWR) == handle:
        os.set_inheritable(handle, True)
