"""Ways to a server that can break at the worst moment."""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

_CHUNK = 65536


class Proxy:
    """A proxy in front of the server of ``url``, which names its port. Its subclasses say what it breaks."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        assert self._parts.hostname
        assert self._parts.port
        self._server: tuple[str, int] | None = (self._parts.hostname, self._parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        #: Both ends of all connections so far.
        self._sockets: list[socket.socket] = []

    @property
    def url(self) -> str:
        """The same server through the proxy."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}{at}127.0.0.1:{self._listener.getsockname()[1]}"))

    def turn_to(self, url: str | None) -> None:
        """Later connections go to another server, as by a virtual address after a failover; None: to none."""
        parts = urlsplit(url or "")
        self._server = (parts.hostname, parts.port) if parts.hostname and parts.port else None

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
                server = self._connected()
                if server is None:
                    client.close()
                    continue
                self._sockets += (client, server)
                for way, source, target in ((self._forward, client, server), (self._return, server, client)):
                    threading.Thread(target=way, args=(source, target), daemon=True).start()

    def _connected(self) -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_connection(self._server) if self._server is not None else None
        return None

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        self._pass_on(client, server)

    def _return(self, server: socket.socket, client: socket.socket) -> None:
        self._pass_on(server, client)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                target.sendall(chunk)
        with contextlib.suppress(OSError):  # also when the source was reset
            target.shutdown(socket.SHUT_RDWR)


class Fate(enum.Enum):
    """What becomes of a COMMIT."""

    #: It is held back for a moment, then all goes on.
    DELAYED = enum.auto()
    #: It is passed on, and all goes on.
    PASSED_ON = enum.auto()
    #: Its connection is lost, and the server never hears of it.
    UNSENT = enum.auto()
    #: The server gets it and answers into the void: the client's connection is lost.
    UNANSWERED = enum.auto()


class CommitBreaker(Proxy):
    """To PostgreSQL. :meth:`arm` decides what becomes of the next COMMIT, and what happens at that very moment.

    Args:
        tells_server: whether the server hears of a lost connection. If not, its side stays open until the next
            :meth:`arm`, as when the client's host has vanished.
    """

    def __init__(self, url: str, *, tells_server: bool = False) -> None:
        super().__init__(url)
        self._tells_server = tells_server
        self._lock = threading.Lock()
        self._fate: Fate | None = None
        self._meanwhile: Callable[[], None] | None = None
        #: Servers' ends of lost connections.
        self._void: list[socket.socket] = []
        #: Set when the COMMIT has met its fate.
        self.met = threading.Event()

    def arm(self, fate: Fate, meanwhile: Callable[[], None] | None = None) -> None:
        """Decide about the next commit."""
        with self._lock:
            for one in self._void:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._void.clear()
            self._fate, self._meanwhile = fate, meanwhile
            self.met.clear()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(_CHUNK):
                fate, meanwhile = self._take(chunk)
                if fate is Fate.UNSENT and meanwhile is not None:  # before the client can do anything about it
                    meanwhile()
                    meanwhile = None
                if fate in (Fate.UNSENT, Fate.UNANSWERED):
                    client.shutdown(socket.SHUT_RDWR)
                if fate is not Fate.UNSENT and fate is not Fate.DELAYED:
                    server.sendall(chunk)
                if meanwhile is not None:
                    meanwhile()
                if fate is Fate.DELAYED:
                    server.sendall(chunk)
                if fate is not None:
                    self.met.set()
                if fate in (Fate.UNSENT, Fate.UNANSWERED) and not self._tells_server:
                    with self._lock:
                        self._void.append(server)
                    return
            server.shutdown(socket.SHUT_RDWR)

    def _take(self, chunk: bytes) -> tuple[Fate | None, Callable[[], None] | None]:
        if b"COMMIT\0" not in chunk:  # not: READ COMMITTED
            return None, None
        with self._lock:
            taken = self._fate, self._meanwhile
            self._fate = self._meanwhile = None
            return taken


class DeafProxy(Proxy):
    """To Redis. After :meth:`deafen`, a client that asks for messages on a connection of before hears that there are
    none. Everything else on these connections works, so the worker's transport finds no fault.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._deafened: set[socket.socket] = set()

    def deafen(self) -> None:
        """From now on."""
        self._deafened.update(self._sockets)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(_CHUNK):
                if client in self._deafened and b"BRPOP" in chunk:
                    threading.Timer(1, self._say_nothing_is_there, [client]).start()
                else:
                    server.sendall(chunk)
            server.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _say_nothing_is_there(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.sendall(b"*-1\r\n")


class RefusingProxy(Proxy):
    """To Redis. After :meth:`refuse` it answers commands with an error, on today's connections and on later ones."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._text = b""
        self._commands: set[bytes] = set()
        #: How many commands were refused so far.
        self.refused = 0

    def refuse(self, text: str, *commands: str) -> None:
        """From now on; without ``commands`` every command but those that open a connection."""
        self._commands = {command.encode() for command in commands}
        self._text = text.encode()

    def relent(self) -> None:
        """All is as before."""
        self._text = b""

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as commands:
            while first := commands.readline():
                raw, name = first, b""
                for number in range(int(first[1:])):
                    length = commands.readline()
                    argument = commands.read(int(length[1:]) + 2)
                    raw += length + argument
                    name = name or (argument[:-2].upper() if number == 0 else b"")
                if self._is_refused(name):
                    self.refused += 1
                    client.sendall(b"-" + self._text + b"\r\n")
                else:
                    server.sendall(raw)
            server.shutdown(socket.SHUT_RDWR)

    def _is_refused(self, name: bytes) -> bool:
        opening = {b"HELLO", b"AUTH", b"SELECT", b"CLIENT"}
        return bool(self._text) and (name in self._commands if self._commands else name not in opening)


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


class TlsProxy(Proxy):
    """Speaks TLS to clients. To PostgreSQL's they are let in as PostgreSQL does it: a question, an answer, then TLS.

    Args:
        certificate: the server's, with its key in the same file.
        host: what clients are to call it.
    """

    def __init__(self, url: str, *, certificate: Path, host: str = "localhost") -> None:
        super().__init__(url)
        self._host = host
        self._is_postgres = url.startswith("postgresql://")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    @property
    def url(self) -> str:
        """The same server by TLS; add what a client is to verify."""
        url = super().url.replace("@127.0.0.1:", f"@{self._host}:")
        return url if self._is_postgres else url.replace("redis://", "rediss://")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # A client may not trust us; and our side may be closed (ValueError) while it waits.
        with contextlib.suppress(OSError, ValueError), client:
            if self._is_postgres:
                client.recv(8)
                client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as secure,
                socket.create_connection(self._server or ("", 0)) as server,
            ):
                self._sockets += (secure, server)
                while True:
                    # One thread for both ways: OpenSSL's connections are not to be used by two at once.
                    ready = [secure] if secure.pending() else select.select([secure, server], [], [])[0]
                    for source in ready:
                        chunk = source.recv(_CHUNK)
                        if not chunk:
                            return
                        (server if source is secure else secure).sendall(chunk)


class UnixProxy(Proxy):
    """Reached by a Unix socket at ``path``, in Celery's spelling of its URL."""

    def __init__(self, url: str, path: Path) -> None:
        super().__init__(url)
        self._listener.close()
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()

    @property
    def url(self) -> str:
        """The same server by the socket."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return f"redis+socket://{user}{at}{self._path}?virtual_host={self._parts.path.strip('/')}"
