"""What fails in a line of the log costs that line, in whichever of the ways it is written: through structlog, through
the standard library's logging, or by printing.
"""

from __future__ import annotations

import logging as stdlib_logging
import sys
from types import TracebackType
from typing import Any, TextIO

from ledgerq_shared.process import output


class Losing:
    """A context in which a line is made and written. It ends an exception there, unless that is an interruption.

    Args:
        interruptions: exceptions that a signal raises wherever the code is. They are no failure of the line in which
            they happen to strike.
    """

    def __init__(self, interruptions: tuple[type[Exception], ...]) -> None:
        self._interruptions = interruptions

    def __enter__(self) -> None:
        """Begin a line."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: TracebackType | None) -> bool:
        """Whether the exception, if there is one, ends here."""
        return isinstance(error, Exception) and not isinstance(error, self._interruptions)


class Handler(stdlib_logging.StreamHandler[TextIO]):
    """Writes the lines of the standard library's logging."""

    def __init__(self, stream: TextIO, losing: Losing) -> None:
        super().__init__(stream)
        self._losing = losing

    def emit(self, record: stdlib_logging.LogRecord) -> None:
        """Write a line, or lose it."""
        with self._losing:
            self.stream.write(self.format(record) + self.terminator)
            self.flush()


class Lines:
    """Writes each of structlog's lines at once, without a lock, because a fork or a signal handler could find the lock
    taken.
    """

    def __init__(self, *_: Any) -> None:
        self._write = output.plain(sys.stderr).write

    def msg(self, line: str) -> None:
        """Write a line."""
        self._write(line + "\n")

    log = debug = info = warning = error = exception = critical = msg


def losing_logger(logger: type[Any], losing: Losing) -> type[Any]:
    """The same kind of structlog's loggers, which loses a line instead of raising, and says so in the next line that it
    can write.
    """

    class LosingLogger(logger):  # type: ignore[misc]
        told = 0

        def _proxy_to_logger(self, method: str, event: str | None = None, **fields: Any) -> None:
            lost = output.lost_writes()
            with losing:
                super()._proxy_to_logger(method, event, **fields)
                if lost != LosingLogger.told and lost == output.lost_writes():
                    lines, LosingLogger.told = lost - LosingLogger.told, lost
                    super()._proxy_to_logger("warning", "log.lines_lost", lines=lines)

    return LosingLogger
