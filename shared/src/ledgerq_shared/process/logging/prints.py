"""Standard output and error of a service whose log is JSON: what a task or a library prints becomes lines of the log.

Each thread's text is collected until its line is complete, so that two tasks of one process do not share a line. Text
that a program or a C library writes straight to the descriptor does not come this way.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

#: An unfinished line of this many characters is written.
_LONGEST = 65_536


class Prints(io.TextIOWrapper):
    """A text stream that makes one line of the log of what is printed up to a line break; what is printed at once may have
    several.

    Args:
        plain: the stream to which the process really writes; None of it is closed here.
        context: what is being done, with the first piece of a line: a task's id, for example.
        log: writes a text to the log, with what ``context`` returned.
    """

    def __init__(
        self,
        plain: TextIO,
        context: Callable[[], Mapping[str, object]],
        log: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        super().__init__(_Bytes(self), encoding="utf-8", errors="backslashreplace")  # type: ignore[arg-type]
        #: For lines that are made already, and for the line with which a service refuses to start.
        self.plain = plain
        self._context = context
        self._log = log
        self._pieces = _Pieces()

    def write(self, text: str, /) -> int:
        """Take ``text``; it is logged when it ends with a line break."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._pieces.text:
            if text != "\n" and self._pieces.fields != self._context():
                self.flush()  # another task's
        elif text.isspace() and "\n" in text:
            return len(text)  # empty lines
        if not self._pieces.text:
            self._pieces.fields = self._context()
        self._pieces.text += text
        if text.endswith("\n") or len(self._pieces.text) > _LONGEST:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Log what the calling thread has begun, even if its line is not complete."""
        pieces = getattr(self, "_pieces", None)
        if pieces is not None and pieces.text:
            text, pieces.text = pieces.text, ""
            if text := text.strip("\r\n"):
                self._log(text, pieces.fields)

    def close(self) -> None:
        """The process's output is not closed."""


class _Pieces(threading.local):
    """What the calling thread has begun."""

    text: str = ""
    fields: Mapping[str, object] = {}


class _Bytes(io.RawIOBase):
    """For ``sys.stdout.buffer``."""

    def __init__(self, prints: Prints) -> None:
        super().__init__()
        self._prints = prints

    def write(self, data: Any, /) -> int:
        """Take the bytes as UTF-8."""
        view = memoryview(data).cast("B")
        self._prints.write(bytes(view).decode(errors="backslashreplace"))
        return len(view)

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor, for programs that are started with it."""
        return self._prints.plain.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._prints.plain.isatty()

    def close(self) -> None:
        """The process's output is not closed."""
