"""What is mixed into uvicorn's protocol class, with one object per connection: it bounds the head, counts the bytes of
bodies and of unread answers, and answers instead of the application what it refuses.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from ledgerq_shared.errors import HeadTooLarge, LedgerQError, NotHttp, ServerBusy, TargetTooLong
from ledgerq_shared.front_door.answers import refusal
from ledgerq_shared.front_door.closing import Lingering, Unchunked
from ledgerq_shared.front_door.guard import Guard
from ledgerq_shared.front_door.protocol import HttpProtocol
from ledgerq_shared.front_door.times import End, Part, end_of_wait
from ledgerq_shared.languages import say

#: A connection with fewer bytes of a body than this never has to give way: all connections together cannot fill the
#: memory with so little.
_SMALL_BODY = 4096
#: Looked up once, because they are used several times per request.
_HEAD, _BODY, _REST, _NOTHING = Part.HEAD, Part.BODY, Part.REST, Part.NOTHING


class Guarded(HttpProtocol):
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
            self._refuse(ServerBusy(say("Too many connections are open; try again.")))

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
            kind = Unchunked if is_old else Lingering
            self.cycle.transport = kind(self.transport, self.linger)

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
        if self in self.guard.unread:
            self._check_reader(now)
        if self._part is _BODY and self.flow.read_paused:  # we are the ones who do not read
            self._since = now
        end = end_of_wait(self._part, now - self._since, self.guard.limits, is_begun=self._head_bytes > 0)
        if end is End.CLOSE:
            self.transport.close()
        elif end is End.ABORT:
            self.transport.abort()
        elif end is not None:
            self._refuse(end)

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

    def _await(self, part: Part) -> None:
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
        self.transport.write(refusal(error, self.server_state.default_headers))
        self._await(_REST)
        self.linger()
