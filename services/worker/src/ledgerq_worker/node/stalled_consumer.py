"""Does the node hear its tickets? A worker may be connected to Redis and take nothing (Celery's #8030, #8091, #10205).

Whatever the reason, it looks the same: tickets lie in Redis, a slot is idle, and no ticket is taken. The lease agent sees
that, and the parent hangs up: its event loop meets an error, and Celery connects anew. If that does not help (the loop
itself may be gone), the node takes no more work and ends when its running tasks have ended, so that whoever started it
starts another.

Deaf is only who could hear. The parent knows what the agent does not: whether a process of the pool is ready (it may be
loading a model), and whether Redis refuses its consumer, for which neither a new connection nor another node is a cure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from ledgerq_shared.broker import Broker

log = structlog.get_logger()

#: So long tickets may lie beside an idle slot, in seconds: a worker that hears takes them within milliseconds, but one
#: whose machine is busy, or whose threads are held up by the GIL, takes a while. To hang up in vain costs next to nothing.
_DEAF_AFTER = 5.0
#: How often a node is connected anew before it ends, without a ticket taken in between.
_CURES = 2
#: Errors that the consumer meets because of one cure: we hung up. More mean that Redis lets nobody listen.
_ERRORS_OF_A_CURE = 1


class StalledConsumer:
    """Decides from one look after another whether the node is deaf."""

    def __init__(self) -> None:
        self._taken = -1
        self._since: float | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last look has found tickets that nobody took."""
        return self._since is not None

    def look(self, now: float, *, taken: int, is_unheard: bool) -> bool:
        """Whether the node is deaf now. Once said, it is said again only after as long a while.

        Args:
            now: by the monotonic clock.
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
    """Whether tickets lie in Redis, as seen by a thread of its own: the agent's loop waits for nothing.

    Args:
        queues: that the node serves.
    """

    def __init__(self, broker: Broker, queues: Sequence[str]) -> None:
        self._broker = broker
        self._queues = queues
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = False

    def look(self) -> bool:
        """What the last look has seen; the next one begins now."""
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
    """What the parent can do about its consumer, once there is one."""

    #: Connects anew to the broker.
    hang_up: Callable[[], None]
    #: Takes no more work, and ends the node when its running tasks have ended.
    give_up: Callable[[], None]
    #: How many processes (or threads) of the pool are ready for a ticket, those that work on one included.
    ready_slots: Callable[[], int]


class Reconnect:
    """The parent's side: what is done when the node is deaf."""

    def __init__(self) -> None:
        #: None until there is a connection.
        self.hearing: ConsumerHandle | None = None
        #: How often the consumer has lost its connection, or was refused.
        self.errors = 0
        self._taken = -1
        self._cures = 0
        self._errors_before = 0

    def met_error(self) -> None:
        """The consumer has met an error of the broker's, and connects anew by itself."""
        self.errors += 1

    def connect_or_give_up(self, taken: int, busy_slots: int) -> None:
        """Hang up; if that did not help, give up. Nothing is done for who could not hear.

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
