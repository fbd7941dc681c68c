"""Finds out whether the node is deaf: a worker may be connected to Redis and take no tickets (Celery's #8030, #8091,
#10205).

Whatever the reason is, it looks the same: tickets lie in Redis, a slot is idle, and no ticket is taken. The lease agent
sees this, and the parent shuts its sockets down: its event loop gets an error, and Celery connects anew. If that does
not help (the loop itself may be gone), the node takes no more work and ends when its running tasks have ended, so that
its supervisor starts another one.

Only a node that could take tickets is deaf. The parent knows what the agent does not know: whether a process of the
pool is ready (it may be loading a model), and whether Redis refuses its consumer; then neither a new connection nor
another node would help.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from ledgerq_shared.broker import Broker

log = structlog.get_logger()

#: How many seconds tickets may lie beside an idle slot. A healthy worker takes them within milliseconds, but it takes
#: longer if its machine is busy or if the GIL holds its threads up. A needless reconnection costs next to nothing.
_DEAF_AFTER = 5.0
#: How many times a node connects anew before it ends, if it takes no ticket in between.
_CURES = 2
#: How many errors the consumer meets because of one such reconnection. More errors mean that Redis refuses its
#: connections.
_ERRORS_OF_A_CURE = 1


class Deafness:
    """Decides from a series of looks whether the node is deaf."""

    def __init__(self) -> None:
        self._taken = -1
        self._since: float | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last look found tickets that nobody took."""
        return self._since is not None

    def look(self, now: float, *, taken: int, is_unheard: bool) -> bool:
        """Whether the node is deaf now. After a True, the next True comes only after the same time again.

        Args:
            now: the time, by the monotonic clock.
            taken: how many tickets the node has taken so far.
            is_unheard: whether a ticket lies in Redis although a slot is idle.
        """
        if not is_unheard or taken != self._taken:
            self._since = None
        self._taken = taken
        if not is_unheard:
            return False
        if self._since is None:
            self._since = now
        if now - self._since < _DEAF_AFTER:
            return False
        self._since = now
        return True


class TicketsSeen:
    """Whether tickets lie in Redis. A thread of its own looks, so that the agent's loop need not wait.

    Args:
        queues: the queues that the node serves.
    """

    def __init__(self, broker: Broker, queues: Sequence[str]) -> None:
        self._broker = broker
        self._queues = queues
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = False

    def look(self) -> bool:
        """The result of the last look; the next look begins now."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tickets-seen", daemon=True)
            self._thread.start()
        seen, self._seen = self._seen, False
        self._asked.set()
        return seen

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            self._seen = self._broker.has_tickets(self._queues)


@dataclass
class ConsumerHandle:
    """What the parent can do about its consumer, once the consumer exists."""

    #: Connects anew to the broker.
    hang_up: Callable[[], None]
    #: Takes no more work, and ends the node when its running tasks have ended.
    give_up: Callable[[], None]
    #: How many processes (or threads) of the pool are ready for a ticket, those that work on one included.
    ready_slots: Callable[[], int]


class Reconnect:
    """The parent's side: what it does when the node is deaf."""

    def __init__(self) -> None:
        #: None until there is a connection.
        self.hearing: ConsumerHandle | None = None
        #: How many times the consumer has lost its connection or was refused.
        self.errors = 0
        self._taken = -1
        self._cures = 0
        self._errors_before = 0

    def met_error(self) -> None:
        """Note that the consumer has met an error of the broker, and connects anew by itself."""
        self.errors += 1

    def connect_or_give_up(self, taken: int, busy_slots: int) -> None:
        """Connect anew; if that did not help, give up. Does nothing if the node cannot take tickets at present.

        Args:
            taken: how many tickets the node has taken so far.
            busy_slots: how many slots work on a ticket.
        """
        if self.hearing is None:
            return
        errors, self._errors_before = self.errors - self._errors_before, self.errors
        if errors > _ERRORS_OF_A_CURE or self.hearing.ready_slots() <= busy_slots:
            self._cures = 0
            return
        self._cures = self._cures + 1 if taken == self._taken else 1
        self._taken = taken
        if self._cures <= _CURES:
            log.warning("worker.deaf", what="tickets wait and none is taken: connecting anew to the broker")
            self.hearing.hang_up()
        else:
            log.error("worker.deaf_for_good", what="connecting anew to the broker did not help: this worker ends")
            self.hearing.give_up()
