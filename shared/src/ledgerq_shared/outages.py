"""When a store is away, or takes no writes: said once when it begins, once a minute while it lasts, once when it is over.

One object for each thing that may fail, one set for each process. Who meets a failure notes it here, and writes no line of
its own about it; who succeeds says so, which costs next to nothing while all is well.
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

#: Seconds between two lines while it lasts; and within them at most so many outages are told of one by one.
_EVERY, _MOST = 60.0, 3

#: What is said of each kind: when it begins or lasts, and when it is over.
_EVENTS = {
    "answers": ("store.away", "store.is_back"),
    "writes": ("store.refuses_writes", "store.takes_writes"),
    "replica": ("replica.not_used", "replica.used_again"),
}


@dataclass(frozen=True)
class Seen:
    """An outage as it stands.

    Attributes:
        reason: the latest failure, in one line.
    """

    since: datetime
    reason: str


class Outage:
    """One thing that may fail.

    Args:
        store: ``PostgreSQL`` or ``Redis``.
        what: ``answers``, or ``writes`` of whatever kind; ``replica``: the use of it.
        settles: seconds without a failure after which a success counts that need not be of the kind that failed.
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
        #: Another process of the same node is sure to meet it, too, and tells: here a line is for who debugs.
        self.is_told_elsewhere = False
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing has failed."""
        self._lock = threading.Lock()  # another one: in a child, a thread that it has not got may have this
        #: Whether it fails. Read without a lock by whoever succeeds.
        self.is_on = False
        self.failures = 0
        self._reason = ""
        self._began = self._failed_at = self._say_at = 0.0
        self._in_this = 0
        self._is_told = False
        self._begins: list[float] = []

    @property
    def seen(self) -> Seen | None:
        """The outage; null: there is none that this process knows of."""
        if not self.is_on:
            return None
        since = datetime.fromtimestamp(time.time() - (self._clock() - self._began), UTC)
        return Seen(since, self._reason)

    def failed(self, reason: str) -> None:
        """It has failed somebody.

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
        """It has served somebody. To be called while :attr:`is_on`.

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
        # One that comes and goes all the time would fill the log by its begins and ends; one that stays is told of later.
        is_news = len(self._begins) < _MOST
        self._say_at = now if is_news else now + _EVERY
        if is_news:
            self._begins.append(now)

    def _lasts(self, now: float) -> float:
        return round(now - self._began, 1)


#: A read or a connection that succeeds after one that failed is enough: where one succeeds, the server answers.
POSTGRESQL = Outage("PostgreSQL", "answers", settles=1.0)
#: A read that succeeds says nothing of a full disk; nor does an update in place.
POSTGRESQL_WRITES = Outage("PostgreSQL", "writes", settles=30.0)
REDIS = Outage("Redis", "answers", settles=1.0)
REDIS_WRITES = Outage("Redis", "writes", settles=10.0)
ALL = (POSTGRESQL, POSTGRESQL_WRITES, REDIS, REDIS_WRITES)
#: A replica fails nobody: what it cannot answer the primary does.
REPLICA = Outage("PostgreSQL", "replica", settles=0.0)


def leave_to_node() -> None:
    """This is one of many processes of a pool: that a store does not answer, the node's agent and parent tell."""
    for outage in (POSTGRESQL, REDIS):
        outage.is_told_elsewhere = True


def _after_fork() -> None:
    """A child has its own connections, and a lock that nobody else has taken."""
    for outage in (*ALL, REPLICA):
        outage.forget()


os.register_at_fork(after_in_child=_after_fork)


def note(event: str, error: BaseException, **fields: Any) -> None:
    """A line about what could not be done, unless an outage was told of that is the reason.

    Args:
        event: such as ``agent.ledger_unavailable``.
        error: an error of a store's; ``is_told`` where the outage tells of it.
    """
    write = log.debug if getattr(error, "is_told", False) else log.warning
    write(event, error=" ".join(str(error).split()), **fields)
