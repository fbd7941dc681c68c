"""The access log (`LEDGERQ_API_ACCESS_LOG`): one line of JSON on standard error for each answer, written at its end.

It is for machines and was asked for, so the lines are JSON and are written whatever the format and the level of the
other lines are. Nothing in them is text from a client, except a request id that has been checked.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from msgspec import Struct
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledgerq_api.answers.refusal_counts import note_refusal
from ledgerq_api.auth.scopes import template_of
from ledgerq_api.requests.lean import encode
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.process import output

#: The status of a line without an answer: the client had gone, or this process ended.
NOT_ANSWERED = 499
#: The route of a path that is not ours.
UNMATCHED = "unmatched"

#: In the request's state: the status with which the front door answered instead of the application.
_REFUSED = "ledgerq_refused"


class AccessLine(Struct, kw_only=True):
    """A line of the access log."""

    event: str = "api.request"
    level: str = "info"
    #: When the answer ended (RFC 3339 in UTC).
    timestamp: str
    #: As in the answer's `X-Request-ID`; null: the request was refused before it was read.
    request_id: str | None = None
    #: Of the API key; null: none was needed, none was sent, or it was not valid.
    key_id: str | None = None
    #: As the client sent it; null: as `request_id`.
    method: str | None = None
    #: The template of the path, such as `/tasks/{task_id}`, or `unmatched`; null: as `request_id`.
    route: str | None = None
    status: int
    #: From the end of the request's head to the end of the answer; null: as `request_id`.
    duration_seconds: float | None = None
    #: The client's, as a trusted proxy names it; null: it is not known.
    address: str | None = None
    service: str = "api"


class AccessLog:
    """Writes a line for each request that reaches the application. To be left out if nobody wants the lines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, has_gone = time.perf_counter(), 0, False

        async def noted_receive() -> Message:
            nonlocal has_gone
            message = await receive()
            has_gone = has_gone or message["type"] == "http.disconnect"
            return message

        async def noted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and not has_gone:
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, noted_receive, noted_send)
        except Exception:  # it is answered further out
            status = status or 500
            raise
        finally:
            _write(_line(scope, status or NOT_ANSWERED, time.perf_counter() - begun))


def note_and_write_refusal(error: LedgerQError, address: str, scope: Scope | None) -> None:
    """The front door has refused a request: count it, and write its line.

    Args:
        scope: the request's, if the application has begun to answer it; its line is written when the application ends.
    """
    note_refusal(error, address)
    if scope is None:
        _write(AccessLine(timestamp=_now(), status=error.status, address=address or None))
    else:
        scope["state"][_REFUSED] = error.status


def _line(scope: Scope, status: int, seconds: float) -> AccessLine:
    client = scope.get("client")
    return AccessLine(
        timestamp=_now(),
        request_id=scope["request_id"],
        key_id=getattr(scope.get("ledgerq_key"), "id", None),
        method=scope.get("ledgerq_method", scope["method"]),
        route=_template(scope),
        status=scope.get("state", {}).get(_REFUSED, status),
        duration_seconds=round(seconds, 6),
        address=client[0] if client else None,
    )


def _template(scope: Scope) -> str:
    route = scope.get("route")
    if route is not None:
        return str(getattr(route, "path_format", route.path))
    return template_of(scope["path"]) or UNMATCHED  # it was refused before it was routed


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _write(line: AccessLine) -> None:
    output.tell(encode(line).decode())
