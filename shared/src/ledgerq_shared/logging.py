"""Structured logs: structlog in front, console lines for people or JSON for collectors behind.

Logging never raises: a line that cannot be made or written is lost (:mod:`ledgerq_shared.output`), and the next line
that can be written says how many were lost.
"""

from __future__ import annotations

import json
import logging as stdlib_logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import structlog

from ledgerq_shared import output
from ledgerq_shared.prints import Prints
from ledgerq_shared.settings import LogSettings


def is_for_people(log_format: str) -> bool:
    """Whether lines of this format (`LogSettings.log_format`) are written for a person, and not for a collector."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def configure(
    settings: LogSettings,
    *,
    service: str,
    context: Callable[[], Mapping[str, object]] = dict,
    prints: Callable[[], Mapping[str, object]] | None = None,
    interruptions: tuple[type[Exception], ...] = (),
) -> None:
    """Set up structlog and the standard library's logging for this process.

    Args:
        settings: level and format.
        service: ``api``, ``worker``, ``maintenance`` or ``monitor``; it is in every line.
        context: called for each line; it returns what is being done: a request's id, a task's id.
        prints: if the log is JSON, whatever is printed becomes lines of the log, too, with the fields that this
            returns; None: prints are this process's answer to its caller, and stay as they are.
        interruptions: exceptions that a signal raises wherever the code is. They go through: they are no failure of a
            line in which they happen to strike.
    """
    output.guard()
    level = stdlib_logging.getLevelNamesMapping()[("debug" if settings.debug else settings.log_level).upper()]
    as_json = not is_for_people(settings.log_format)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if as_json
        else structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        _Service(service),
        _Context(context),
    ]
    renderer = _Json() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=_unfailing(structlog.make_filtering_bound_logger(level), interruptions),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    stdlib_logging.raiseExceptions = False  # it would print what went wrong, and fail at printing
    stderr = output.plain(sys.stderr)
    handler = _Handler(stderr, interruptions)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = stdlib_logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    if as_json:
        _in_utf8(stderr)
    if as_json and prints is not None:
        _take_prints(shared, prints, interruptions)


def _take_prints(
    shared: list[structlog.typing.Processor],
    context: Callable[[], Mapping[str, object]],
    interruptions: tuple[type[Exception], ...],
) -> None:
    """Make lines of the log of what is printed, of warnings, and of exceptions that nobody handles."""
    for name, method in (("stdout", "info"), ("stderr", "warning")):
        plain = output.plain(getattr(sys, name))
        if isinstance(getattr(plain, "buffer", None), output.Output):  # else it is a test's
            _in_utf8(plain)
            prints = Prints(plain, context, _Printed(plain, name, method, shared, interruptions))
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


def _in_utf8(stream: TextIO) -> None:
    """JSON is UTF-8, whatever the locale is; half a character of UTF-16 is written as JSON's escape for it."""
    if isinstance(getattr(stream, "buffer", None), output.Output):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[attr-defined]


class _Handler(stdlib_logging.StreamHandler[TextIO]):
    """Loses a line instead of raising, unless an interruption strikes in it."""

    def __init__(self, stream: TextIO, interruptions: tuple[type[Exception], ...]) -> None:
        super().__init__(stream)
        self._interruptions = interruptions

    def handleError(self, record: stdlib_logging.LogRecord) -> None:  # noqa: N802 - called while it is handled
        error = sys.exc_info()[1]
        if isinstance(error, self._interruptions):
            raise error
        super().handleError(record)


class _Printed:
    """Writes printed text as lines of the log. A line that cannot be made is lost."""

    def __init__(
        self,
        plain: TextIO,
        stream: str,
        method: str,
        shared: list[structlog.typing.Processor],
        interruptions: tuple[type[Exception], ...],
    ) -> None:
        self._plain = plain
        self._interruptions = interruptions
        self._stream = stream
        self._method = method
        self._processors = [one for one in shared if not isinstance(one, _Context)]
        self._render = _Json()

    def __call__(self, text: str, fields: Mapping[str, object]) -> None:
        try:
            event: Any = {"event": text, "stream": self._stream}
            for process in self._processors:
                event = process(None, self._method, event)
            self._plain.write(self._render(None, self._method, {**fields, **event}) + "\n")
        except self._interruptions:
            raise
        except Exception:  # noqa: S110 - a line is lost
            pass


#: What some readers take for the end of a line, although JSON allows it inside of one.
_BREAKS = str.maketrans({character: f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"})


class _Json:
    """Renders a line as JSON that a person can read, too: first what happened, text as it is."""

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=repr).encode

    def __call__(self, _logger: object, method: str, event: structlog.typing.EventDict) -> str:
        fields = {"event": event.pop("event", None), "level": event.pop("level", method), **event}
        try:
            line = self._encode(fields)
        except (TypeError, ValueError, RecursionError):  # NaN, a key that is no text, a list that contains itself
            line = self._encode({str(name): _plain_value(value) for name, value in fields.items()})
        return line if line.isascii() else line.translate(_BREAKS)


def _plain_value(value: object) -> object:
    return value if value is None or isinstance(value, (str, bool, int)) else repr(value)


def _unfailing(logger: type[Any], interruptions: tuple[type[Exception], ...]) -> type[Any]:
    """The same kind of logger, which loses a line instead of raising, and says so in the next line that it can
    write.
    """

    class Unfailing(logger):  # type: ignore[misc]
        told = 0

        def _proxy_to_logger(self, method: str, event: str | None = None, **fields: Any) -> None:
            lost = output.lost_writes()
            try:
                super()._proxy_to_logger(method, event, **fields)
                if lost != Unfailing.told and lost == output.lost_writes():
                    lines, Unfailing.told = lost - Unfailing.told, lost
                    super()._proxy_to_logger("warning", "log.lines_lost", lines=lines)
            except interruptions:
                raise
            except Exception:  # noqa: S110 - a line is lost
                pass

    return Unfailing


class _Lines:
    """Writes each line at once, without a lock, because a fork or a signal handler could find the lock taken."""

    def __init__(self, *_: Any) -> None:
        self._write = output.plain(sys.stderr).write

    def msg(self, line: str) -> None:
        self._write(line + "\n")

    log = debug = info = warning = error = exception = critical = msg


class _Service:
    """Adds to every line which service wrote it."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = self._service
        return event


class _Context:
    """Adds the context's fields, except those that the line itself has."""

    def __init__(self, context: Callable[[], Mapping[str, object]]) -> None:
        self._context = context

    def __call__(self, logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        for name, value in self._context().items():
            event.setdefault(name, value)
        return event
