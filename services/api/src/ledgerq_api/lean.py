"""The lean way through a request: plain ASGI, for the calls whose speed is promised.

FastAPI's routing of a request into arguments and a model costs more than all the rest of a submit. These
helpers read a body with a limit and send prepared bytes; everything else is FastAPI as usual.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ledgerq_api.errors import BodyTooLarge, UnsupportedMediaType
from ledgerq_api.query import check_names

T = TypeVar("T")
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")

#: Encodes the wire types of the ``schemas`` modules.
encode = msgspec.json.Encoder().encode


class LeanRoute(Route):
    """A route to a plain ASGI application that answers to one method (and HEAD, if that is GET)."""

    def __init__(self, path: str, handler: Handler, *, method: str) -> None:
        #: The methods that it does not answer 405.
        self.answered = {method, "HEAD"} if method == "GET" else {method}
        super().__init__(path, _OneMethod(handler, self), methods=None, include_in_schema=False)


class _OneMethod:
    """Refuses other methods by itself: a later route with a path parameter would match the same path."""

    def __init__(self, handler: Handler, route: LeanRoute) -> None:
        self._handler = handler
        self._route = route
        self._methods = route.answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route  # FastAPI notes its own routes only; the metrics want to know
        if scope["method"] not in self._methods:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self._methods))})
        if scope["query_string"]:
            check_names(scope["query_string"], {})
        await self._handler(scope, receive, send)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def text_of(scope: Scope, name: bytes) -> str | None:
    """A header's value as text; null if it is not there."""
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")


async def read_json_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole request body, which must be declared as JSON.

    Args:
        limit: most bytes.
    """
    length: int | None = None
    media_type = encoding = b""
    for key, value in scope["headers"]:
        if key == b"content-type":
            media_type = value
        elif key == b"content-length":
            length = int(value)  # the server has checked that it is a number
        elif key == b"content-encoding":
            encoding = value
    if media_type != b"application/json":
        _check_media_type(media_type)
    if encoding and encoding.lower() != b"identity":
        said = encoding[:80].decode("latin-1")
        raise UnsupportedMediaType(f"The body must be sent as it is, without `Content-Encoding: {said}`.")
    if length is not None and length > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    return await _read_on(receive, bytearray(body), limit)


async def _read_on(receive: Receive, body: bytearray, limit: int) -> bytes:
    while len(body) <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    if len(body) > limit:
        raise _too_large(limit)
    return bytes(body)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, unless the client goes away before that.

    Raises:
        ClientDisconnect: nobody is there any more; the work was cancelled.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send one complete answer."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _check_media_type(value: bytes) -> None:
    """Only JSON, also to keep a page in somebody's browser from submitting with a plain form."""
    media_type = value.split(b";")[0].strip().lower()
    if media_type == b"application/json" or (media_type.startswith(b"application/") and media_type.endswith(b"+json")):
        return
    said = f"it says '{value[:80].decode('latin-1')}'" if value else "it has no Content-Type"
    raise UnsupportedMediaType(f"The body must be sent with `Content-Type: application/json`; {said}.")


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit:,} bytes.", limit=limit)
