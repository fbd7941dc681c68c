"""Structured logs: structlog in front, console lines for people or JSON for collectors behind.

Logging never raises: a line that cannot be made or written is lost (:mod:`ledgerq_shared.output`), and the next line
that can be written says how many were lost.
"""

from __future__ import annotations

import contextlib
import logging as stdlib_logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from ledgerq_shared import output
from ledgerq_shared.settings import LogSettings


def is_for_people(log_format: str) -> bool:
    """Whether lines of this format (`LogSettings.log_format`) are written for a person, and not for a collector."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def configure(
    settings: LogSettings, *, service: str, context: Callable[[], Mapping[str, object]] | None = None
) -> None:
    """Set up structlog and the standard library's logging for this process.

    Args:
        settings: level and format.
        service: ``api``, ``worker``, ``maintenance`` or ``monitor``; it is in every line.
        context: called for each line; it returns what is being done: a request's id, a task's id.
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
        *([] if context is None else [_Context(context)]),
    ]
    renderer = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=_unfailing(structlog.make_filtering_bound_logger(level)),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    stdlib_logging.raiseExceptions = False  # it would print what went wrong, and fail at printing
    handler = stdlib_logging.StreamHandler(sys.stderr)
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


def _unfailing(logger: type[Any]) -> type[Any]:
    """The same kind of logger, which loses a line instead of raising, and says so in the next line that it can
    write.
    """

    class Unfailing(logger):  # type: ignore[misc]
        told = 0

        def _proxy_to_logger(self, method: str, event: str | None = None, **fields: Any) -> None:
            lost = output.lost_writes()
            with contextlib.suppress(Exception):
                super()._proxy_to_logger(method, event, **fields)
                if lost != Unfailing.told and lost == output.lost_writes():
                    lines, Unfailing.told = lost - Unfailing.told, lost
                    super()._proxy_to_logger("warning", "log.lines_lost", lines=lines)

    return Unfailing


class _Lines:
    """Writes each line at once, without a lock, because a fork or a signal handler could find the lock taken."""

    def __init__(self, *_: Any) -> None:
        self._write = sys.stderr.write

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
