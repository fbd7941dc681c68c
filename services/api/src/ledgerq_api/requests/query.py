"""Refuses query parameters that the call does not know, or that are given twice: a typing error must not change an
answer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.routing import APIRoute

from ledgerq_shared.errors import InvalidRequest
from ledgerq_shared.languages import say

#: The attribute in which a route keeps its known parameters after they were looked up.
_KEPT = "ledgerq_query"


class CheckedRoute(APIRoute):
    """A call that FastAPI routes. It knows the query parameters that its documentation lists.

    (A dependency of FastAPI would do the same, and cost a tenth of a small answer.)
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own, after the check."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            _check(request)
            return await handle(request)

        return checked


def _check(request: Request) -> None:
    encoded: bytes = request.scope["query_string"]
    if encoded:
        kept: dict[str, Any] = request.scope["route"].__dict__
        if _KEPT not in kept:
            kept[_KEPT] = _documented(request)
        known: dict[str, bool] | None = kept[_KEPT]
        if known is not None:
            check_names(encoded, known)


def check_names(encoded: bytes, known: dict[str, bool]) -> None:
    """Check a query string.

    Args:
        known: the known parameters, and whether each may be given several times.

    Raises:
        InvalidRequest: it names the parameter.
    """
    seen: set[str] = set()
    for name, _ in parse_qsl(encoded.decode("latin-1"), keep_blank_values=True, max_num_fields=None):
        if name not in known:
            told = ", ".join(sorted(known)) or "none"
            _refuse(name, f"there is no such parameter here (known: {told})")
        if name in seen and not known[name]:
            _refuse(name, "it stands there more than once")
        seen.add(name)


def _refuse(name: str, reason: str) -> None:
    name = name[:100]
    raise InvalidRequest(
        say("{name}: {reason}.", name=name, reason=reason), errors=[{"detail": reason, "parameter": name}]
    )


def _documented(request: Request) -> dict[str, bool] | None:
    """The parameters in the call's documentation; ``None`` if the call is not documented."""
    path = getattr(request.scope["route"], "path_format", "")
    operation = request.app.openapi()["paths"].get(path, {}).get(request.method.lower().replace("head", "get"))
    if operation is None:
        return None
    parameters = operation.get("parameters", [])
    return {each["name"]: _is_list(each["schema"]) for each in parameters if each["in"] == "query"}


def _is_list(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "array" or any(_is_list(choice) for choice in schema.get("anyOf", ()))
