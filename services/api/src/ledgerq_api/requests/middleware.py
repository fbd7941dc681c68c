"""One small ASGI layer that every request passes: it adds a request id and a few security headers, and measures the
time.
"""

from __future__ import annotations

import itertools
import os
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledgerq_api.metrics import RequestMetrics
from ledgerq_api.requests.origin import note_request
from ledgerq_api.requests.paths import keep_slashes

_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")

_SECURITY_HEADERS = [(b"x-content-type-options", b"nosniff")]

#: Headers for pages that a browser shows; on every other answer of the API they would cost bytes without use.
_PAGE_HEADERS = [*_SECURITY_HEADERS, (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer")]
_PAGES = frozenset({"/", "/docs"})


class RequestEdge:
    """Gives each request an id, or keeps the client's own ``X-Request-ID``, and sends it in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count(1)
        self._metrics = RequestMetrics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if b"%2" in scope["raw_path"]:
            keep_slashes(scope)
        request_id = self._id_of(scope)
        scope["request_id"] = request_id.decode()
        note_request(scope)
        headers = [(b"x-request-id", request_id), *(_PAGE_HEADERS if scope["path"] in _PAGES else _SECURITY_HEADERS)]

        metrics, begun, has_begun = self._metrics, time.perf_counter(), False
        # The answer to GET is right for HEAD, too; the server has the original scope and leaves the body out.
        asked = (
            {**scope, "method": "GET", "ledgerq_method": "HEAD"}
            if scope["method"] == "HEAD" and _has_an_end(scope)
            else scope
        )

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                metrics.answered(asked, scope["method"], message["status"], time.perf_counter() - begun)
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        metrics.in_progress += 1
        try:
            await self._app(asked, receive, send_with_headers)
        except Exception:  # the server answers 500 instead of us
            if not has_begun:
                metrics.answered(asked, scope["method"], 500, time.perf_counter() - begun)
            raise
        finally:
            metrics.in_progress -= 1

    def _id_of(self, scope: Scope) -> bytes:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _ACCEPTED_ID.match(value):
                return bytes(value)
        return b"%s-%x" % (self._prefix.encode(), next(self._numbers))


def _has_an_end(scope: Scope) -> bool:
    """Whether the answer ends by itself. A stream goes on; its route knows what to do with HEAD."""
    return not scope["path"].endswith("/stream")
