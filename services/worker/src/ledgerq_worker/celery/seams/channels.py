"""The *channels*: how a connection to Redis is cut off and closed."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable
from typing import Any

from kombu.transport.redis import Channel as RedisChannel


def hang_up(consumer: Any) -> None:
    """Shut the sockets down through which Celery's consumer hears of messages: its loop meets an error and connects anew.

    From any thread; whatever state the loop or the connection is in.
    """
    connection = consumer.connection
    for channel in list(getattr(connection.transport, "channels", ()) if connection else ()):
        for name in ("client", "subclient"):
            # Cached properties: what has not been made is not to be made now.
            client = vars(channel).get(name)
            taken = getattr(getattr(client, "connection", None), "_sock", None)
            if taken is not None:
                with contextlib.suppress(OSError):
                    taken.shutdown(socket.SHUT_RDWR)


def let_channels_close() -> None:
    """A channel whose transport is gone cannot return what was not acknowledged, and is not to try when it is closed.

    kombu 5.7 does, now and then when Redis goes away: an AttributeError that ends Celery's consumer for good, while the
    process lives on. What was not acknowledged stays in Redis, and is delivered again after its visibility timeout.
    """
    original: Callable[..., None] = RedisChannel.close
    if getattr(original, "knows_when_not_to_restore", False):
        return

    @functools.wraps(original)
    def close(self: Any) -> None:
        if getattr(self.connection, "client", None) is None:
            self.do_restore = False
        original(self)

    close.knows_when_not_to_restore = True  # type: ignore[attr-defined]
    RedisChannel.close = close  # type: ignore[method-assign]
