"""Ways to close a connection so that its client gets to read the last answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_CHUNKED = b"transfer-encoding: chunked\r\n"


class Lingering:
    """A transport for an answer after which the connection is closed.

    Args:
        transport: the connection's own.
        close: closes it, but not before the client has had the chance to read.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing
        self.close = close

    def write(self, data: bytes) -> None:
        """Send some of the answer."""
        self._transport.write(data)


class Unchunked(Lingering):
    """For HTTP/1.0, which has no chunks: an answer of unknown length ends when its connection is closed."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        super().__init__(transport, close)
        self._is_head_sent = self._is_chunked = False

    def write(self, data: bytes) -> None:
        """Send some of the answer, without chunk lengths."""
        if not self._is_head_sent:
            self._is_head_sent = True
            head = data.replace(_CHUNKED, b"", 1)
            self._is_chunked = head != data
            super().write(head)
        elif not self._is_chunked:
            super().write(data)
        else:
            size, _, rest = data.partition(b"\r\n")
            if size:
                super().write(rest[: int(size, 16)])
