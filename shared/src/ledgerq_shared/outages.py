"""Logs when a store is away or takes no writes: a line when it begins, one a minute while it lasts, one when it is
over.

There is one object for each thing that may fail, and one set of them in each process. Code that meets a failure notes
it here, and logs no line of its own about it. Code that succeeds notes that, too, which costs next to nothing while all
is well.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

log = structlog.get_logger()

#: Seconds between two lines while an outage lasts; and how many outages may have lines of their own within that time.
_EVERY, _MOST = 60.0, 3

#: The log events of each kind: while an outage begins or lasts, and when it is over.
_EVENTS = {
    "answers": ("store.away", "store.is_back"),
    "writes": ("store.refuses_writes", "store.takes_writes"),
    "replica": ("replica.not_used", "replica.used_again"),
}


@dataclass(frozen=True)
class Seen:
    """The present state of an outage.

    Attributes:
        reason: the latest failure, in one line.
    """

    since: datetime
    reason: str


class Outage:
    """One thing that may fail.

    Args:
        store: ``PostgreSQL`` or ``Redis``.
        what: ``answers``, ``writes`` (of any kind), or ``replica`` (whether it can be used).
        settles: seconds without a failure after which any success ends the outage, even if it is not of the kind that
            failed.
    """

    def __init__(
        self,
        store: str,
        what: Literal["answers", "writes", "replica"],
        *,
        settles: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.what = store, what
        self._settles = settles
        self._clock = clock
        #: Another process of the same node certainly meets it, too, and logs it; here a line is only for debugging.
        self.is_told_elsewhere = False
        self.forget()

    def forget(self) -> None:
        """Start anew, as if nothing had failed."""
        self._lock = threading.Lock()  # a new lock: in a child, a thread that does not exist there may hold the old one
        #: Whether it fails now. Code that succeeds reads this without a lock.
        self.is_on = False
        self.failures = 0
        self._reason = ""
        self._began = self._failed_at = self._say_at = 0.0
        self._in_this = 0
        self._is_told = False
        self._begins: list[float] = []

    @property
    def seen(self) -> Seen | None:
        """The outage; None: this process knows of none."""
        if not self.is_on:
            return None
        since = datetime.fromtimestamp(time.time() - (self._clock() - self._began), UTC)
        return Seen(since, self._reason)

    def failed(self, reason: str) -> None:
        """Note a failure.

        Args:
            reason: one line, without a password.
        """
        with self._lock:
            now = self._clock()
            self._reason, self._failed_at = reason, now
            self.failures += 1
            if not self.is_on:
                self._begin(now)
            self._in_this += 1
            if now < self._say_at:
                return
            self._is_told = True
            self._say_at = now + _EVERY
            event = _EVENTS[self.what][0]
            self._write(event, store=self.store, seconds=self._lasts(now), failures=self._in_this, error=reason)

    def worked(self, *, is_same_kind: bool = True) -> None:
        """Note a success. To be called while :attr:`is_on`.

        Args:
            is_same_kind: whether it was work of the kind that failed.
        """
        with self._lock:
            now = self._clock()
            if not self.is_on or (not is_same_kind and now - self._failed_at < self._settles):
                return
            self.is_on = False
            if self._is_told:
                self._write(_EVENTS[self.what][1], store=self.store, seconds=self._lasts(now), failures=self._in_this)

    def _write(self, event: str, **fields: object) -> None:
        (log.debug if self.is_told_elsewhere else log.warning)(event, **fields)

    def _begin(self, now: float) -> None:
        self.is_on = True
        self._began, self._in_this, self._is_told = now, 0, False
        self._begins = [begun for begun in self._begins if now - begun < _EVERY]
        # An outage that comes and goes all the time would fill the log with its begins and ends; one that stays is
        # logged later.
        is_news = len(self._begins) < _MOST
        self._say_at = now if is_news else now + _EVERY
        if is_news:
            self._begins.append(now)

    def _lasts(self, now: float) -> float:
        return round(now - self._began, 1)


#: After a failed read or connection, any successful one is enough: it shows that the server answers.
POSTGRESQL = Outage("PostgreSQL", "answers", settles=1.0)
#: A successful read says nothing about a full disk; nor does an update in place.
POSTGRESQL_WRITES = Outage("PostgreSQL", "writes", settles=30.0)
REDIS = Outage("Redis", "answers", settles=1.0)
REDIS_WRITES = Outage("Redis", "writes", settles=10.0)
ALL = (POSTGRESQL, POSTGRESQL_WRITES, REDIS, REDIS_WRITES)
#: No caller fails because of a replica: the primary answers what the replica cannot.
REPLICA = Outage("PostgreSQL", "replica", settles=0.0)


def numbers() -> frozenset[int]:
    """Which outages of ``ALL`` are on, by their places in it."""
    return frozenset(number for number, outage in enumerate(ALL) if outage.is_on)


def leave_to_node() -> None:
    """This process is one of many in a pool: the node's agent and parent log that a store does not answer."""
    for outage in (POSTGRESQL, REDIS):
        outage.is_told_elsewhere = True


def _after_fork() -> None:
    """A child has connections of its own, and needs a lock that nobody has taken."""
    for outage in (*ALL, REPLICA):
        outage.forget()


os.register_at_fork(after_in_child=_after_fork)


def note(event: str, error: BaseException, **fields: Any) -> None:
    """Log what could not be done, unless the log already reports an outage that is the reason.

    Args:
        event: such as ``agent.ledger_unavailable``.
        error: an error of a store; its ``is_told`` is set if the outage reports it.
    """
    write = log.debug if getattr(error, "is_told", False) else log.warning
    write(event, error=" ".join(str(error).split()), **fields)
