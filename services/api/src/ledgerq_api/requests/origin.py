"""Which request is being answered: for the log lines that it causes, and for the tasks that it submits."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.types import Scope

from ledgerq_api.requests.headers import header, text_of
from ledgerq_shared.process.tracing import Origin, checked_traceparent, current_traceparent

_NOBODY = Origin()
_request: ContextVar[Scope | None] = ContextVar("request", default=None)

#: Note which request this asyncio task answers. Nothing is read from the request before it is needed.
note_request = _request.set


def origin() -> Origin:
    """The request's id, and its span or else the trace context that the client sent."""
    scope = _request.get()
    if scope is None:
        return _NOBODY
    return Origin(scope["request_id"], current_traceparent() or _sent_traceparent(scope))


def log_fields() -> dict[str, str]:
    """The request's fields for log lines."""
    return origin().log_fields()


def request_header(name: bytes) -> bytes | None:
    """The first header of that (lower-case) name of the request that is being answered; None: it has none."""
    scope = _request.get()
    return None if scope is None else header(scope, name)


def _sent_traceparent(scope: Scope) -> str | None:
    sent = text_of(scope, b"traceparent")
    return None if sent is None else checked_traceparent(sent)
