"""``GET /tasks/{task_id}/stream``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from starlette.types import Receive, Scope, Send

from ledgerq_api.auth.gate import check_again
from ledgerq_api.auth.keyring import Keyring
from ledgerq_api.errors import ApiKeyInvalid
from ledgerq_api.lean import LeanRoute, encode, header
from ledgerq_api.stream.feed import Subscription
from ledgerq_api.stream.service import StreamService
from ledgerq_api.tasks.service import event_entry
from ledgerq_shared.errors import InvalidRequest
from ledgerq_shared.events import Event

#: Seconds without an event after which the caller's key is checked again; and the number of such checks after which a
#: comment is sent, so that no proxy takes the stream for dead.
_CHECK_KEY_EVERY = 3.0
_COMMENT_AFTER = 5

_NUMBER = re.compile(rb"[0-9]{1,9}")

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect events until its buffer is full
]

#: Sent at once, so that clients and proxies see that the stream is open; it tells the client to come back after a
#: second if the stream breaks.
_GREETING = b"retry: 1000\n\n"
_COMMENT = b": still here\n\n"


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
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            if scope["method"] != "HEAD":
                await self._follow(scope, subscription, send)
            await send({"type": "http.response.body"})
        finally:
            self._service.feed.unsubscribe(subscription)
            gone.cancel()

    async def _follow(self, scope: Scope, subscription: Subscription, send: Send) -> None:
        await _send(send, _GREETING)
        quiet = 0
        while True:
            is_woken = await _is_woken(subscription)
            try:
                await check_again(scope, self._keyring)
            except ApiKeyInvalid:
                return  # a client that comes back is told why
            if not is_woken:
                quiet += 1
                if quiet % _COMMENT_AFTER == 0:
                    await _send(send, _COMMENT)
                continue
            is_over = subscription.is_over
            events = self._service.feed.take(subscription)
            if events:
                await _send(send, _rendered(events))
            if is_over:
                return


async def _is_woken(subscription: Subscription) -> bool:
    """Whether there is news; False after a while without news."""
    try:
        async with asyncio.timeout(_CHECK_KEY_EVERY):
            await subscription.wake.wait()
    except TimeoutError:
        return False
    return True


def _rendered(events: Iterable[Event]) -> bytes:
    return b"".join(
        # A line break within JSON is white space, and would end the data.
        b"id: %d\nevent: %s\ndata: %s\n\n"
        % (event.seq, event.kind.encode(), encode(event_entry(event)).replace(b"\n", b" ").replace(b"\r", b" "))
        for event in events
    )


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_gone(receive: Receive, subscription: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.end()


def _last_event_id(value: bytes | None) -> int:
    if value is None or not value.strip():
        return 0
    if not _NUMBER.fullmatch(value.strip()):
        raise InvalidRequest("Last-Event-ID: a number is expected, the `id` of the last event that you have.")
    return int(value)
