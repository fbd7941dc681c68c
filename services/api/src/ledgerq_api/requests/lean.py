"""The lean way through a request: plain ASGI, for the calls whose speed matters.

FastAPI's way from a request to arguments and a model costs more than all the rest of a submit. So these calls are
answered before FastAPI sees them, and send prepared bytes. All other calls go through FastAPI as usual.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ledgerq_api.answers.problems import answer_to
from ledgerq_api.requests.paths import task_id_of
from ledgerq_api.requests.query import check_names

T = TypeVar("T")
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")

#: Encodes the wire types of the ``schemas`` modules.
encode = msgspec.json.Encoder().encode


#: Every JSON answer ends with one, so that a terminal's next prompt does not follow it on its line.
NEWLINE = b"\n"


def json_response(body: object, status: int = 200, *, cache: str | None = "no-cache", **headers: str) -> Response:
    """The answer of a call that FastAPI routes.

    Args:
        body: a wire type of the ``schemas`` modules.
        cache: the header ``Cache-Control``; None: there is none.
        headers: others, by their names.
    """
    if cache is not None:
        headers["cache-control"] = cache
    return Response(encode(body) + NEWLINE, status, media_type="application/json", headers=headers)


class LeanRoute:
    """A path that a plain ASGI application answers, for one method (and for HEAD, if the method is GET).

    Args:
        path: may have one parameter, before its last segment: ``/tasks/{task_id}/status``. The parameter stands for one
            segment.
    """

    def __init__(self, path: str, handler: Handler, *, method: str) -> None:
        self.path = path
        #: The methods that it answers; any other gets 405.
        self.answered = frozenset({method, "HEAD"} if method == "GET" else {method})
        self.before, _, rest = path.partition("{")
        self.parameter, _, self.after = rest.partition("}")
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        scope["route"] = self  # for the metrics
        if scope["method"] not in self.answered:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self.answered))})
        if scope["query_string"]:
            check_names(scope["query_string"], {})
        await self._handler(scope, receive, send)


class LeanPaths:
    """Answers the calls of ``routes``; passes all others on."""

    def __init__(self, app: ASGIApp, routes: Sequence[LeanRoute]) -> None:
        self._app = app
        self._exact = {route.path: route for route in routes if not route.parameter}
        self._by_end = {route.after: route for route in routes if route.parameter}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        route = None
        if scope["type"] == "http":
            route = self._exact.get(scope["path"]) or self._with_parameter(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        try:
            await route(scope, receive, send)
        except Exception as error:
            answer = answer_to(error, scope["path"])
            if answer is None:
                raise
            await answer(scope, receive, send)

    def _with_parameter(self, scope: Scope) -> LeanRoute | None:
        path: str = scope["path"]
        route = self._by_end.get(path[path.rfind("/") :])
        if route is None or not path.startswith(route.before):
            return None
        value = path[len(route.before) : -len(route.after)]
        if not value or "/" in value:
            return None
        scope["path_params"] = {route.parameter: task_id_of(value)}
        return route


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, unless the client disconnects before that.

    Raises:
        ClientDisconnect: the client has gone; the work was cancelled.
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
    """Send one complete answer; `body` is JSON without the newline that it ends with."""
    body += NEWLINE
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
