"""Does the node hear its tickets? A worker may be connected to Redis and take nothing (Celery's #8030, #8091, #10205).

Whatever the reason, it looks the same: tickets lie in Redis, a slot is idle, and no ticket is taken. The lease agent sees
that, and the parent hangs up: its event loop meets an error, and Celery connects anew. If that does not help (the loop
itself may be gone), the node ends, so that whoever started it starts another.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

log = structlog.get_logger()

#: So long tickets may lie beside an idle slot, in seconds: a worker that hears takes them within milliseconds, but one
#: whose machine is busy, or whose threads are held up by the GIL, takes a while. To hang up in vain costs next to nothing.
_DEAF_AFTER = 5.0
#: How often a node is connected anew before it ends, without a ticket taken in between.
_CURES = 2


class Deafness:
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


class Ears:
    """The parent's side: what is done when the node is deaf."""

    def __init__(self) -> None:
        #: Connects anew to the broker; null until there is a connection.
        self.hang_up: Callable[[], None] | None = None
        #: Ends the node: running tasks have their while, and the rest is handed back.
        self.give_up: Callable[[], None] | None = None
        self._taken = -1
        self._cures = 0

    def cure(self, taken: int) -> None:
        """Hang up; if that did not help, give up.

        Args:
            taken: how many tickets the node has taken so far.
        """
        if self.hang_up is None or self.give_up is None:
            return
        self._cures = self._cures + 1 if taken == self._taken else 1
        self._taken = taken
        if self._cures <= _CURES:
            log.warning("worker.deaf", what="tickets wait and none is taken: connecting anew to the broker")
            self.hang_up()
        else:
            log.error("worker.deaf_for_good", what="connecting anew to the broker did not help: this worker ends")
            self.give_up()
