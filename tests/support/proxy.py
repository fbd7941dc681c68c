"""A way to PostgreSQL that can break at the worst moment: after a COMMIT went through, before its answer came back."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 65536


class CommitBreaker:
    """A proxy in front of the server of ``url``. After :meth:`arm` the next COMMIT loses its connection.

    Args:
        passes_commit_on: whether the server gets that COMMIT (and answers into the void) or never hears of it.
    """

    def __init__(self, url: str, *, passes_commit_on: bool) -> None:
        self._parts = urlsplit(url)
        self._passes_on = passes_commit_on
        self._armed = threading.Event()
        self.broken = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]

    @property
    def url(self) -> str:
        """The same database through the proxy."""
        user, _, _ = self._parts.netloc.rpartition("@")
        port = self._listener.getsockname()[1]
        return urlunsplit(self._parts._replace(netloc=f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}"))

    def arm(self) -> None:
        """Break the next commit."""
        self._armed.set()

    def __enter__(self) -> Self:
        """Listen."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more, and end what is open."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._parts.hostname or "127.0.0.1", self._parts.port or 5432))
                self._sockets += (client, server)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._return, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(_CHUNK):
                if b"COMMIT" in chunk and self._armed.is_set():
                    self._armed.clear()
                    client.shutdown(socket.SHUT_RDWR)
                    if self._passes_on:
                        server.sendall(chunk)
                    self.broken.set()
                    return  # the server's side stays open, as when a host has vanished
                server.sendall(chunk)
            server.shutdown(socket.SHUT_RDWR)

    def _return(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(_CHUNK):
                client.sendall(chunk)
            client.shutdown(socket.SHUT_RDWR)
