"""Sets up structlog and the standard library's logging for a process."""

from __future__ import annotations

import logging as stdlib_logging
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
from structlog.typing import Processor

from ledgerq_shared.process import output
from ledgerq_shared.process.logging.capturing import capture
from ledgerq_shared.process.logging.fields import Context, common
from ledgerq_shared.process.logging.json_lines import JsonLines, in_utf8
from ledgerq_shared.process.logging.losing import Handler, Lines, Losing, losing_logger


class LogOptions(Protocol):
    """What a process is told about its log: a `ledgerq_shared.settings.LogSettings`, or what was made of one."""

    @property
    def log_level(self) -> str:
        """The least severe level that is shown."""

    @property
    def log_format(self) -> str:
        """`auto`, `console` or `json`."""

    @property
    def debug(self) -> bool:
        """Whether everything is shown, whatever the level is."""


def is_for_people(log_format: str) -> bool:
    """Whether lines of this format (`LogSettings.log_format`) are written for a person, and not for a collector."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def configure(
    settings: LogOptions,
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
    losing = Losing(interruptions)
    everywhere = common(service, as_json=as_json)
    first: list[Processor] = [*everywhere, Context(context)]
    last: list[Processor] = [
        structlog.processors.format_exc_info,
        JsonLines() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
    ]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=losing_logger(structlog.make_filtering_bound_logger(level), losing),
        logger_factory=Lines,
        cache_logger_on_first_use=True,
    )
    _configure_stdlib(first, last, level, losing)
    if as_json:
        in_utf8(sys.stderr)
    if as_json and prints is not None:
        capture(everywhere, prints, losing)


def _configure_stdlib(first: list[Processor], last: list[Processor], level: int, losing: Losing) -> None:
    stdlib_logging.raiseExceptions = False  # it would print what went wrong, and fail at printing
    handler = Handler(output.plain(sys.stderr), losing)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = stdlib_logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
