"""A request's headers, as ASGI has them."""

from __future__ import annotations

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def text_of(scope: Scope, name: bytes) -> str | None:
    """A header's value as text; None if it is missing."""
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")
