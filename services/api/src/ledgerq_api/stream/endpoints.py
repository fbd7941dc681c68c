"""``GET /tasks/{task_id}/stream``."""

from __future__ import annotations

import asyncio
import re
from functools import partial

from starlette.types import Receive, Scope, Send

from ledgerq_api.auth.gate import check_again
from ledgerq_api.auth.keyring import Keyring
from ledgerq_api.requests.headers import header
from ledgerq_api.requests.lean import LeanRoute
from ledgerq_api.stream.feed import Subscription
from ledgerq_api.stream.service import StreamService
from ledgerq_api.stream.sse import HEADERS, follow
from ledgerq_shared.errors import InvalidRequest
from ledgerq_shared.languages import say

_NUMBER = re.compile(rb"[0-9]{1,9}")


def lean_routes(service: StreamService, keyring: Keyring) -> list[LeanRoute]:
    """The call; its answer lasts for as long as the task runs and the caller's key is usable."""
    return [LeanRoute("/tasks/{task_id}/stream", _Stream(service, keyring), method="GET")]


class _Stream:
    def __init__(self, service: StreamService, keyring: Keyring) -> None:
        self._service = service
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = _last_event_id(header(scope, b"last-event-id"))
        subscription = await self._service.open(scope["path_params"]["task_id"], seen)
        if subscription is None:
            # A browser opens a stream again when it ends; this status tells it that nothing more will come.
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        gone = asyncio.create_task(_until_gone(receive, subscription))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
            if scope["method"] != "HEAD":
                await follow(self._service.feed, subscription, send, partial(check_again, scope, self._keyring))
            await send({"type": "http.response.body"})
        finally:
            self._service.feed.unsubscribe(subscription)
            gone.cancel()


async def _until_gone(receive: Receive, subscription: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.end()


def _last_event_id(value: bytes | None) -> int:
    if value is None or not value.strip():
        return 0
    if not _NUMBER.fullmatch(value.strip()):
        raise InvalidRequest(say("Last-Event-ID: a number is expected, the `id` of the last event that you have."))
    return int(value)
