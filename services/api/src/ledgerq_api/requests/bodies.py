"""Bodies of requests: reads them with a limit, also where the body may be left out, and decodes them, or says what to
tell the client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from ledgerq_api.answers.errors import BodyTooLarge, MalformedJson, UnsupportedMediaType
from ledgerq_api.answers.problems import from_msgspec
from ledgerq_api.requests.integers import is_about_floats
from ledgerq_shared.errors import InvalidRequest
from ledgerq_shared.languages import say

#: The greatest nesting of lists and objects.
MAX_DEPTH = 64

#: Text that msgspec refuses and Python's own decoder accepts.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

Body = TypeVar("Body")


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
        raise UnsupportedMediaType(
            say("The body must be sent as it is, without `Content-Encoding: {said}`.", said=said)
        )
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


async def read_optional(request: Request, *, limit: int) -> bytes:
    """The body; an empty one stands for a body that was left out.

    An empty body needs no `Content-Type`, except from a web page (which sends `Origin`): another site's page must not
    be able to pause a queue with a plain form.
    """
    headers = request.headers
    is_empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if is_empty and "content-type" not in headers and "origin" not in headers:
        return b"{}"
    return await read_json_body(request.scope, request.receive, limit=limit) or b"{}"


def decoded(body: bytes, decode: Callable[[bytes], Body], again: Callable[[bytes], Body] | None = None) -> Body:
    """The body, decoded by ``decode``.

    Args:
        again: decodes a body whose integers are written as floats.

    Raises:
        InvalidRequest, MalformedJson
    """
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:  # msgspec's and UnicodeDecodeError are ValueErrors
        if again is not None and is_about_floats(error):
            with suppress(ValueError):  # a number has a fraction, or something else is wrong, too
                return again(body)
        raise decode_problem(error, body) from None


def decode_problem(error: Exception, body: bytes) -> Exception:
    """What to tell a client whose body did not decode."""
    if isinstance(error, msgspec.ValidationError):
        return from_msgspec(error)
    if isinstance(error, RecursionError):
        return InvalidRequest(say("The body is nested more than {max_depth} levels deep.", max_depth=MAX_DEPTH))
    if isinstance(error, UnicodeDecodeError):
        return MalformedJson(say("The body is not UTF-8."))
    if not body:
        return MalformedJson(say("The body is empty."))
    if _SURROGATE.search(body) and _is_json(body):
        return InvalidRequest(say("The body holds a lone surrogate (\\ud800 to \\udfff), which is not Unicode text."))
    return MalformedJson(say("The body is not valid JSON: {error}.", error=error))


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _check_media_type(value: bytes) -> None:
    """Only JSON is accepted, also so that a page in somebody's browser cannot submit with a plain form."""
    media_type = value.split(b";")[0].strip().lower()
    if media_type == b"application/json" or (media_type.startswith(b"application/") and media_type.endswith(b"+json")):
        return
    said = say("it says '{type}'", type=value[:80].decode("latin-1")) if value else say("it has no Content-Type")
    raise UnsupportedMediaType(say("The body must be sent with `Content-Type: application/json`; {said}.", said=said))


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(say("The body is larger than {limit:,} bytes.", limit=limit), limit=limit)
