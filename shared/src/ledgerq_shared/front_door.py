"""What a connection may cost a server: the bytes of a head, the time for each part of a request, the memory of all
together.

uvicorn parses HTTP; this module stands between uvicorn and the socket. A client without a key may open connections,
send a head that never ends, stall in a body, or not read its answer. Each of these has a bound here, and an answer that
names the bound.

``Guarded`` is mixed into uvicorn's protocol class, with one object per connection; ``Guard`` is what the connections of
one process share. The module does not depend on the web framework, so the API and the monitor both use it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from ledgerq_shared.errors import (
    HeadTooLarge,
    LedgerQError,
    NotHttp,
    RequestTimedOut,
    ServerBusy,
    TargetTooLong,
)

#: Seconds after which a client that was refused for want of room may try again.
_RETRY_AFTER = 2
_CHUNKED = b"transfer-encoding: chunked\r\n"
#: If this many seconds lie between two sweeps, this process stood still, and has not yet read what its clients sent
#: meanwhile.
_STANDSTILL = 5.0
#: A connection with fewer bytes of a body than this never has to give way: all connections together cannot fill the
#: memory with so little.
_SMALL_BODY = 4096


@dataclass(frozen=True)
class Limits:
    """What connections may cost. Times are seconds, sizes bytes."""

    #: Open connections of the process; a further connection is answered with 503.
    connections: int = 10_000
    #: Bytes of all connections together: bodies that are being read or worked on, and answers that nobody has read yet.
    held_bytes: int = 64 * 1024 * 1024
    #: Request line and headers.
    head_bytes: int = 64 * 1024
    #: Path and query.
    target_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    #: How long an answer may wait while its client reads none of it.
    write_seconds: float = 30.0
    #: How long a client may go on sending a body that was refused, so that it gets to read the reason.
    linger_seconds: float = 5.0


class _Part(Enum):
    """What a connection waits for from its client."""

    HEAD = auto()
    BODY = auto()
    #: The rest of a body whose request was answered before all of it had arrived.
    REST = auto()
    NOTHING = auto()


#: Looked up once, because they are used several times per request.
_HEAD, _BODY, _REST, _NOTHING = _Part.HEAD, _Part.BODY, _Part.REST, _Part.NOTHING


class Guard:
    """What the connections of one process share.

    Args:
        limits: what they may cost.
        note: told of each refusal: the error, the client's address, and the ASGI scope of the request if the
            application has begun to answer it (the client does not get that answer), else None.
    """

    def __init__(self, limits: Limits, note: Callable[[LedgerQError, str, dict[str, Any] | None], object]) -> None:
        self.limits = limits
        self.note = note
        #: Bytes of bodies whose requests are not answered yet.
        self.bodies = 0
        #: Connections whose clients read more slowly than they are answered.
        self.unread: set[Guarded] = set()
        #: Connections that have sent some of a body, more than a small one, and not all of it.
        self.unfinished: set[Guarded] = set()
        #: The monotonic clock at the last sweep: this is exact enough for deadlines and costs a request nothing.
        self.now = time.monotonic()

    def has_room(self, asker: Guarded) -> bool:
        """Whether the asker's request, or more of it, may be taken in.

        The client that holds the most because of its own slowness gives way, so that clients that stall keep nobody
        out: a body that does not end is refused, and a client that does not read its answer loses its connection.
        ``False``: that client is the asker itself.
        """
        if not self.unread and self.bodies <= self.limits.held_bytes:
            return True
        while self.bodies + sum(one.unread_bytes for one in self.unread) > self.limits.held_bytes:
            largest = max(self.unread | self.unfinished, key=lambda one: one.slow_bytes, default=asker)
            if largest is asker or not largest.slow_bytes:
                return False
            largest.give_way()
        return True

    def sweep(self, connections: Iterable[Guarded]) -> None:
        """End the connections that have used up their time. To be called about once a second, in the event loop's
        thread.
        """
        before, self.now = self.now, time.monotonic()
        stood_still = self.now - before > _STANDSTILL
        for connection in list(connections):
            if stood_still:
                connection.give_time(self.now)
            else:
                connection.check_time(self.now)


if TYPE_CHECKING:

    class _Protocol(asyncio.Protocol):
        """The part of uvicorn's protocol class that is used here."""

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

        def on_headers_complete(self) -> None: ...
        def on_body(self, body: bytes) -> None: ...
        def on_message_complete(self) -> None: ...
        def on_response_complete(self) -> None: ...

else:
    _Protocol = object


class Guarded(_Protocol):
    """To be mixed in before uvicorn's ``HttpToolsProtocol``, with a ``guard`` of the process."""

    guard: ClassVar[Guard]

    _part = _HEAD
    #: When this request began, or when the client was first waited for, by the guard's clock.
    _since = 0.0
    #: Bytes in which the head has arrived, including what came in the same piece.
    _head_bytes = 0
    #: Bytes of this request's body that the guard counts.
    _held = 0
    #: The headers of the last request that has arrived completely.
    _complete: object = None
    #: Why a callback ended the parsing; ``None``: the parser ended it.
    _refused_by_us: LedgerQError | None = None
    #: The request that is being answered while others wait behind it.
    _answering: Any = None
    _is_refused = False
    _is_closing = False
    _unread_at_last = -1
    _unread_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when a client has connected."""
        super().connection_made(transport)
        self._since = self.guard.now
        if len(self.connections) > self.guard.limits.connections:
            self._refuse(ServerBusy("Too many connections are open; try again."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the client has gone."""
        self._release()
        self.guard.unread.discard(self)
        if self._answering is not None:  # uvicorn tells only the last request
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with some bytes of a request, or of several."""
        if self._is_refused:
            return
        if self._part is _NOTHING:
            self._await(_HEAD)
            self._head_bytes = len(data)
        elif self._part is _HEAD:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._part is _NOTHING:
            if self.headers is not self._complete:  # another request has begun in the same piece
                self._await(_HEAD)
                self._head_bytes = 0
        elif self._part is _HEAD and self._head_bytes > self.guard.limits.head_bytes and not self._is_refused:
            self._refuse(HeadTooLarge() if self.headers else TargetTooLong())

    def on_headers_complete(self) -> None:
        """Called when the whole head has arrived."""
        if self._head_bytes > self.guard.limits.target_bytes:
            self._check_head()
        if not self.guard.has_room(self):
            raise self._refusal(ServerBusy())
        before = self.cycle
        super().on_headers_complete()
        if self.pipeline and self._answering is None:
            self._answering = before
        self._part = _BODY
        if self.cycle is not None and not self.cycle.keep_alive:
            is_old = self.parser.get_http_version() == "1.0"
            self.cycle.transport = _Unchunked(self) if is_old else _Lingering(self)

    def on_body(self, body: bytes) -> None:
        """Called with some bytes of a body."""
        if self._part is _BODY:
            self._held += len(body)
            self.guard.bodies += len(body)
            if self._held > _SMALL_BODY:
                self.guard.unfinished.add(self)
            if not self.guard.has_room(self):
                raise self._refusal(ServerBusy())
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called when the whole request has arrived."""
        self._part = _NOTHING
        self._complete = self.headers
        if self._held > _SMALL_BODY:
            self.guard.unfinished.discard(self)
        super().on_message_complete()
        if self._is_closing:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Called when the answer is written, perhaps before all of the request was read."""
        if self._held:
            self._release()
        if self._part is _BODY:
            self._await(_REST)
        if self._answering is not None:
            self._answering = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Called when the client reads more slowly than it is answered."""
        self.guard.unread.add(self)
        self._unread_at_last = -1
        super().pause_writing()

    def resume_writing(self) -> None:
        """Called when the client has read."""
        self.guard.unread.discard(self)
        super().resume_writing()

    def send_400_response(self, _msg: str) -> None:
        """Called by uvicorn when it cannot parse, or when one of the callbacks above has refused."""
        self._refuse(self._refused_by_us or NotHttp())

    @property
    def unread_bytes(self) -> int:
        """Bytes of answers that wait here until the client reads."""
        return 0 if self.transport.is_closing() else int(self.transport.get_write_buffer_size())

    @property
    def slow_bytes(self) -> int:
        """Bytes that are held here because the client does not read, or does not send the rest."""
        return self.unread_bytes + (self._held if self in self.guard.unfinished else 0)

    def give_way(self) -> None:
        """Make room for others."""
        if self.transport.is_closing():  # it has gone; connection_lost is about to be called
            self._release()
        elif self in self.guard.unfinished:
            self._refuse(ServerBusy())
        else:
            self.transport.abort()

    def check_time(self, now: float) -> None:
        """End the connection if its client has had its time."""
        limits = self.guard.limits
        waited = now - self._since
        if self in self.guard.unread:
            self._check_reader(now)
        if self._part is _HEAD:
            if waited > limits.head_seconds:
                if self._head_bytes:
                    self._refuse(
                        RequestTimedOut(f"The request's head did not arrive within {limits.head_seconds:g} s.")
                    )
                else:
                    self.transport.close()
        elif self._part is _BODY:
            if self.flow.read_paused:  # we are the ones who do not read
                self._since = now
            elif waited > limits.body_seconds:
                self._refuse(RequestTimedOut(f"The request's body did not arrive within {limits.body_seconds:g} s."))
        elif self._part is _REST and waited > limits.linger_seconds:
            self.transport.abort()

    def linger(self) -> None:
        """Close when the client has sent all that it wants to send, or after a while.

        An immediate close would reset the connection while the client sends, and the client would never read its
        answer.
        """
        if self._part is _NOTHING:
            self.transport.close()
            return
        self._is_closing = True
        self._await(_REST)
        if not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()

    def give_time(self, now: float) -> None:
        """Start the time limit anew."""
        self._since = self._unread_since = now

    def _check_head(self) -> None:
        limits = self.guard.limits
        if len(self.url) > limits.target_bytes:
            raise self._refusal(TargetTooLong())
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limits.head_bytes:
            raise self._refusal(HeadTooLarge())

    def _refusal(self, error: LedgerQError) -> Exception:
        """What a callback of the parser raises; the parser passes on only that it failed."""
        self._refused_by_us = error
        return error

    def _check_reader(self, now: float) -> None:
        unread = self.unread_bytes
        if unread != self._unread_at_last:
            self._unread_at_last, self._unread_since = unread, now
        elif now - self._unread_since > self.guard.limits.write_seconds:
            self.transport.abort()

    def _await(self, part: _Part) -> None:
        self._part = part
        self._since = self.guard.now

    def _release(self) -> None:
        if self._held:
            self.guard.bodies -= self._held
            self._held = 0
            self.guard.unfinished.discard(self)

    def _refuse(self, error: LedgerQError) -> None:
        """Answer instead of the application, and close."""
        self._is_refused = True
        self._release()
        cycle = self.cycle
        if self._answering is not None:
            self.transport.abort()
            return
        scope = None
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:  # another answer cannot begin in the middle of one
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            scope = cycle.scope
        self.guard.note(error, self.client[0] if self.client else "", scope)
        self.flow.resume_reading()
        self.transport.write(_answer(error, self.server_state.default_headers))
        self._await(_REST)
        self.linger()


class _Lingering:
    """A transport for an answer after which the connection is closed."""

    def __init__(self, connection: Guarded) -> None:
        self._connection = connection
        self.is_closing = connection.transport.is_closing

    def write(self, data: bytes) -> None:
        """Send some of the answer."""
        self._connection.transport.write(data)

    def close(self) -> None:
        """Close, but not before the client has had the chance to read."""
        self._connection.linger()


class _Unchunked(_Lingering):
    """For HTTP/1.0, which has no chunks: an answer of unknown length ends when its connection is closed."""

    def __init__(self, connection: Guarded) -> None:
        super().__init__(connection)
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


def _answer(error: LedgerQError, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole HTTP answer with a problem document (RFC 9457)."""
    title = (type(error).__doc__ or error.code).strip().splitlines()[0]
    problem = {
        "type": f"urn:ledgerq:problem:{error.code}",
        "title": title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    body = json.dumps(problem, separators=(",", ":")).encode()
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode(),
        *(name + b": " + value for name, value in headers),
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    if error.retryable:
        lines.append(b"retry-after: %d" % _RETRY_AFTER)
    return b"\r\n".join([*lines, b"", body])
