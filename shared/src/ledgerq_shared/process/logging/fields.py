"""What stands in every line of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog
from structlog.typing import EventDict, Processor


def common(service: str, *, as_json: bool) -> list[Processor]:
    """What adds the fields that every line has, also a line that was printed."""
    time = {"fmt": "iso", "utc": True} if as_json else {"fmt": "%H:%M:%S", "utc": False}
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(**time),  # type: ignore[arg-type]
        Service(service),
    ]


class Service:
    """Adds which service wrote the line."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, logger: object, method: str, event: EventDict) -> EventDict:
        """As structlog calls a processor."""
        event["service"] = self._service
        return event


class Context:
    """Adds the context's fields, except those that the line itself has."""

    def __init__(self, context: Callable[[], Mapping[str, object]]) -> None:
        self._context = context

    def __call__(self, logger: object, method: str, event: EventDict) -> EventDict:
        """As structlog calls a processor."""
        for name, value in self._context().items():
            event.setdefault(name, value)
        return event
