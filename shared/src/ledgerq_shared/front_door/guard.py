"""What the connections of one process share: limits, the memory of all together, and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ledgerq_shared.errors import LedgerQError

#: If this many seconds lie between two sweeps, this process stood still, and has not yet read what its clients sent
#: meanwhile.
_STANDSTILL = 5.0


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


class Connection(Protocol):
    """What the guard needs of a connection."""

    @property
    def unread_bytes(self) -> int:
        """Bytes of answers that wait here until the client reads."""
        ...

    @property
    def slow_bytes(self) -> int:
        """Bytes that are held here because the client does not read, or does not send the rest."""
        ...

    def give_way(self) -> None:
        """Make room for others."""

    def give_time(self, now: float) -> None:
        """Start the time limit anew."""

    def check_time(self, now: float) -> None:
        """End the connection if its client has had its time."""


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
        self.unread: set[Connection] = set()
        #: Connections that have sent some of a body, more than a small one, and not all of it.
        self.unfinished: set[Connection] = set()
        #: The monotonic clock at the last sweep: this is exact enough for deadlines and costs a request nothing.
        self.now = time.monotonic()

    def has_room(self, asker: Connection) -> bool:
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

    def sweep(self, connections: Iterable[Connection]) -> None:
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
