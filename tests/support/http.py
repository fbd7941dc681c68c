"""The smallest HTTP client that tests need: no proxy, no pool, every status is an answer."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Response:
    """One answer; ``headers`` have lower-case names."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


def request(
    method: str,
    url: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> Response:
    """Send one request; ``body`` becomes JSON unless it is bytes. Raises ``OSError`` when nobody listens."""
    parts = urlsplit(url)
    assert parts.hostname
    sent = {"content-type": "application/json"} if body is not None else {}
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, data, {**sent, **(headers or {})})
        answer = connection.getresponse()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def answers(url: str, status: int = 200, *, timeout: float = 5.0) -> bool:
    """True when ``url`` answers with ``status`` now, within so many seconds."""
    try:
        return request("GET", url, timeout=timeout).status == status
    except (OSError, http.client.HTTPException):
        return False
