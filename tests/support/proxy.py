"""Ways to a server that can break at the worst moment."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 65536


class Proxy:
    """A proxy in front of the server of ``url``, which names its port. What it breaks is its subclasses' affair."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        assert self._parts.hostname
        assert self._parts.port
        self._server = (self._parts.hostname, self._parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        #: Both ends of all connections so far.
        self._sockets: list[socket.socket] = []

    @property
    def url(self) -> str:
        """The same server through the proxy."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}{at}127.0.0.1:{self._listener.getsockname()[1]}"))

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
                server = socket.create_connection(self._server)
                self._sockets += (client, server)
                for way, source, target in ((self._forward, client, server), (self._return, server, client)):
                    threading.Thread(target=way, args=(source, target), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        self._pass_on(client, server)

    def _return(self, server: socket.socket, client: socket.socket) -> None:
        self._pass_on(server, client)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                target.sendall(chunk)
            target.shutdown(socket.SHUT_RDWR)


class CommitBreaker(Proxy):
    """To PostgreSQL. After :meth:`arm` the next COMMIT loses its connection before its answer comes back.

    Args:
        passes_commit_on: whether the server gets that COMMIT (and answers into the void) or never hears of it.
    """

    def __init__(self, url: str, *, passes_commit_on: bool) -> None:
        super().__init__(url)
        self._passes_on = passes_commit_on
        self._armed = threading.Event()
        self.broken = threading.Event()

    def arm(self) -> None:
        """Break the next commit."""
        self._armed.set()

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


class SilentProxy(Proxy):
    """After :meth:`silence` what is connected stays so and hears nothing; later connections work.

    So it looks to both sides when a host, a NAT or a load balancer in between has forgotten the connection.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._silenced: set[socket.socket] = set()

    def silence(self) -> None:
        """From now on nothing that is sent on today's connections arrives."""
        self._silenced.update(self._sockets)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if source not in self._silenced:
                    target.sendall(chunk)
            if source not in self._silenced:
                target.shutdown(socket.SHUT_WR)
