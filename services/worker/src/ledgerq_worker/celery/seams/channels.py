"""The *channels*: how a connection to Redis is cut off and closed."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable
from typing import Any

from kombu.transport.redis import Channel as RedisChannel


def hang_up(consumer: Any) -> None:
    """Shut down the sockets through which Celery's consumer receives messages: its loop gets an error and connects
    anew.

    May be called from any thread, whatever state the loop or the connection is in.
    """
    connection = consumer.connection
    for channel in list(getattr(connection.transport, "channels", ()) if connection else ()):
        for name in ("client", "subclient"):
            # These are cached properties: one that does not exist yet must not be made now.
            client = vars(channel).get(name)
            taken = getattr(getattr(client, "connection", None), "_sock", None)
            if taken is not None:
                with contextlib.suppress(OSError):
                    taken.shutdown(socket.SHUT_RDWR)


def let_channels_close() -> None:
    """Make sure that a channel whose transport is gone does not try to return unacknowledged messages when it is
    closed.

    kombu 5.7 tries, now and then, when Redis goes away: the AttributeError ends Celery's consumer for good, while the
    process lives on. Unacknowledged messages stay in Redis, and are delivered again after their visibility timeout.
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
