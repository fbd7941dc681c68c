"""The part of uvicorn's protocol class that is used here, for the type checker: it does not know what `Guarded` is mixed
into.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class HttpProtocol(asyncio.Protocol):
        """uvicorn's ``HttpToolsProtocol``."""

        transport: asyncio.Transport
        connections: set[Any]
        server_state: Any
        parser: Any
        cycle: Any
        flow: Any
        pipeline: Any
        client: tuple[str, int] | None
        url: bytes
        headers: list[tuple[bytes, bytes]]

        def on_headers_complete(self) -> None:
            """Called by the parser after a head."""

        def on_body(self, body: bytes) -> None:
            """Called by the parser with some bytes of a body."""

        def on_message_complete(self) -> None:
            """Called by the parser after a whole request."""

        def on_response_complete(self) -> None:
            """Called after a whole answer."""


else:
    HttpProtocol = object
