"""A way to a server on which connections can fall silent: open on both ends, and nothing comes through any more.

So it looks to both sides when a host, a NAT or a load balancer in between has forgotten the connection.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 65536


class SilentProxy:
    """A proxy in front of the server of ``url``. After :meth:`silence` what is connected stays so and hears nothing.

    Later connections work.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._silenced: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """The same server through the proxy."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}{at}127.0.0.1:{self._listener.getsockname()[1]}"))

    def silence(self) -> None:
        """From now on nothing that is sent on today's connections arrives."""
        self._silenced.update(self._sockets)

    def __enter__(self) -> Self:
        """Listen."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more, and end what is open."""
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._parts.hostname or "127.0.0.1", self._parts.port or 6379))
                self._sockets += (client, server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if source not in self._silenced:
                    target.sendall(chunk)
            if source not in self._silenced:
                target.shutdown(socket.SHUT_WR)
