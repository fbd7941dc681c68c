"""Server-sent events: an answer without end, with a comment now and then, so that no proxy takes it for dead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from starlette.types import Send

from ledgerq_api.answers.errors import ApiKeyInvalid
from ledgerq_api.requests.lean import encode
from ledgerq_api.stream.feed import Feed, Subscription
from ledgerq_api.tasks.service import event_entry
from ledgerq_shared.events import Event

#: Seconds without an event after which the caller's key is checked again; and the number of such checks after which a
#: comment, the heartbeat, is sent.
_CHECK_KEY_EVERY = 3.0
_COMMENT_AFTER = 5

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect events until its buffer is full
)

#: Sent at once, so that clients and proxies see that the stream is open; it tells the client to come back after a
#: second if the stream breaks.
_GREETING = b"retry: 1000\n\n"
_COMMENT = b": still here\n\n"


async def follow(feed: Feed, subscription: Subscription, send: Send, check: Callable[[], Awaitable[None]]) -> None:
    """Send what comes, until the task's last event.

    Args:
        check: raises ApiKeyInvalid once the caller's key is no longer usable; then the stream ends.
    """
    await _send(send, _GREETING)
    quiet = 0
    while True:
        is_woken = await _is_woken(subscription)
        try:
            await check()
        except ApiKeyInvalid:
            return  # a client that comes back is told why
        if not is_woken:
            quiet += 1
            if quiet % _COMMENT_AFTER == 0:
                await _send(send, _COMMENT)
            continue
        is_over = subscription.is_over
        events = feed.take(subscription)
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
