"""Makes lines of a JSON log of what is printed, of warnings, and of exceptions that nobody handles."""

from __future__ import annotations

import logging as stdlib_logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from ledgerq_shared.process import output
from ledgerq_shared.process.logging.json_lines import JsonLines, in_utf8
from ledgerq_shared.process.logging.losing import Losing
from ledgerq_shared.process.logging.prints import Prints


def capture(processors: list[Processor], context: Callable[[], Mapping[str, object]], losing: Losing) -> None:
    """Make lines of everything that this process writes from now on.

    Args:
        processors: what adds the fields that every line has.
        context: the fields of what is being done.
        losing: the context in which a line is made.
    """
    for name, method in (("stdout", "info"), ("stderr", "warning")):
        stream = getattr(sys, name)
        if output.of(stream) is not None:  # else it is a test's
            in_utf8(stream)
            plain = output.plain(stream)
            prints = Prints(plain, context, _Printed(plain, name, method, processors, losing))
            setattr(sys, name, prints)
            setattr(sys, f"__{name}__", prints)
    stdlib_logging.captureWarnings(capture=True)
    log = structlog.get_logger()
    sys.excepthook = lambda kind, error, trace: log.critical("process.failed", exc_info=(kind, error, trace))
    threading.excepthook = lambda args: log.error(
        "thread.failed",
        thread=args.thread.name if args.thread else None,
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        **context(),
    )


class _Printed:
    """Writes printed text as lines of the log."""

    def __init__(self, plain: TextIO, stream: str, method: str, processors: list[Processor], losing: Losing) -> None:
        self._plain = plain
        self._stream = stream
        self._method = method
        self._processors = processors
        self._losing = losing
        self._render = JsonLines()

    def __call__(self, text: str, fields: Mapping[str, object]) -> None:
        with self._losing:
            event: Any = {"event": text, "stream": self._stream}
            for process in self._processors:
                event = process(None, self._method, event)
            self._plain.write(self._render(None, self._method, {**fields, **event}) + "\n")
