"""The answer to a request that does not reach the application."""

from __future__ import annotations

import json
from http import HTTPStatus

from ledgerq_shared.errors import LedgerQError

#: Seconds after which a client that was refused for want of room may try again.
_RETRY_AFTER = 2


def refusal(error: LedgerQError, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole HTTP answer with a problem document (RFC 9457)."""
    problem = {
        "type": f"urn:ledgerq:problem:{error.code}",
        "title": type(error).title(),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    body = json.dumps(problem, separators=(",", ":")).encode()
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode(),
        *(name + b": " + value for name, value in headers),
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    if error.retryable:
        lines.append(b"retry-after: %d" % _RETRY_AFTER)
    return b"\r\n".join([*lines, b"", body])
