"""Every error answer: ``application/problem+json`` (RFC 9457) with a stable ``code``, rendered only here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ledgerq_api.answers.errors import (
    BodyTooLarge,
    InternalError,
    MalformedJson,
    MethodNotAllowed,
    RouteNotFound,
    UnsupportedMediaType,
)
from ledgerq_api.answers.languages import of_request
from ledgerq_api.requests.paths import shown
from ledgerq_shared.errors import InvalidRequest, LedgerQError, Unavailable
from ledgerq_shared.languages import Locale, say, spoken

MEDIA_TYPE = "application/problem+json"

#: Seconds after which a client may try again if a store is away.
RETRY_AFTER = 2

log = structlog.get_logger()


class _Spoken:
    """What `LEDGERQ_LOCALE` says to this process; None: nothing."""

    default: Locale | None = None


_spoken = _Spoken()

_BY_STATUS: dict[int, type[LedgerQError]] = {
    error.status: error
    for error in (MalformedJson, RouteNotFound, MethodNotAllowed, BodyTooLarge, UnsupportedMediaType)
}


def render(error: LedgerQError, path: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells a client about ``error``; ``error.extra`` becomes further members."""
    language = of_request(_spoken.default)
    body: dict[str, Any] = {
        "type": f"urn:ledgerq:problem:{error.code}",
        "title": spoken(type(error).title(), language),
        "status": error.status,
        "detail": _printable(spoken(error.said, language)),
        "instance": _printable(shown(path)),
        "code": error.code,
        **error.extra,
    }
    all_headers = dict(headers or {})
    if isinstance(error, Unavailable):
        all_headers["Retry-After"] = str(RETRY_AFTER)
    return Response(msgspec.json.encode(body) + b"\n", error.status, headers=all_headers, media_type=MEDIA_TYPE)


def answer_to(error: Exception, path: str) -> Response | None:
    """The answer to an expected error: one of ours, one of the framework's, a client that hung up. ``None``: it is
    another error.
    """
    if isinstance(error, LedgerQError):
        return render(error, path)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody will read it
    if isinstance(error, RequestValidationError):
        return render(_from_validation(error.errors()), path)
    if isinstance(error, HTTPException):
        kind = _BY_STATUS.get(error.status_code)
        if kind is None:
            kind = InvalidRequest if error.status_code < 500 else InternalError
        return render(kind(), path, error.headers)
    return None


def install(app: FastAPI, locale: Locale | None = None) -> None:
    """Make sure that every error from an endpoint or from the framework is rendered here.

    Args:
        locale: the language for clients whose `Accept-Language` names none of ours; None: English.
    """
    _spoken.default = locale

    async def expected(request: Request, error: Exception) -> Response:
        answer = answer_to(error, request.url.path)
        assert answer is not None
        return answer

    async def unexpected(request: Request, error: Exception) -> Response:
        request_id = request.scope.get("request_id")
        key_id = getattr(request.scope.get("ledgerq_key"), "id", None)
        log.error("api.request.failed", path=shown(request.url.path), request_id=request_id, key=key_id, exc_info=error)
        return render(InternalError(request_id=request_id), request.url.path)

    for kind in (LedgerQError, ClientDisconnect, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, expected)
    app.add_exception_handler(Exception, unexpected)


def from_msgspec(error: msgspec.ValidationError, prefix: str = "#") -> InvalidRequest:
    """The error that msgspec found in a body, with its place as a JSON pointer."""
    message, _, place = str(error).partition(" - at `")
    pointer = prefix + _pointer(place.rstrip("`"))
    return InvalidRequest(
        say("{where}: {message}", where=pointer.removeprefix("#").removeprefix("/") or "body", message=message),
        errors=[{"detail": message, "pointer": pointer}],
    )


def _pointer(place: str) -> str:
    """``$.tags[3]`` as ``/tags/3``; msgspec does not name every index."""
    parts = [part for part in re.split(r"[.\[\]$]+", place) if part]
    return "".join(f"/{part}" for part in parts)


def _from_validation(errors: Sequence[Any]) -> InvalidRequest:
    """The errors that FastAPI found in the query string."""
    entries = [
        {"detail": str(error["msg"]).removeprefix("Value error, "), "parameter": str(error["loc"][-1])}
        for error in errors
    ]
    first = entries[0]
    return InvalidRequest(say("{where}: {message}", where=first["parameter"], message=first["detail"]), errors=entries)


def _printable(text: str) -> str:
    """Replace lone surrogates, which a path may contain: they have no UTF-8 form."""
    return text.encode("utf-8", "replace").decode()
