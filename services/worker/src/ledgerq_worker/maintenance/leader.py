"""One maintenance process leads: a row with a lease, by the database's clock."""

from __future__ import annotations

import time
from uuid import uuid4

import structlog

from ledgerq_shared.database import Database, execute
from ledgerq_shared.statements.workers import give_up_leadership, take_leadership

log = structlog.get_logger()

_NAME = "maintenance"


class Leadership:
    """Who leads, and since when this process has been able to know.

    Args:
        lease: seconds.
    """

    def __init__(self, database: Database, *, lease: float) -> None:
        self._database = database
        self._lease = lease
        self._holder = uuid4()
        self._asked_at: float | None = None
        self._reachable_since: float | None = None
        self._leads_until = 0.0
        self._clock = 0.0
        self._looked_at: float | None = None

    def leads(self) -> bool:
        """Whether this process leads now. Asks the ledger as often as the lease needs it.

        Raises:
            LedgerUnavailable: PostgreSQL is away; the leadership may be somebody else's by the time it answers.
        """
        self._notice_standstill()
        now = time.monotonic()
        if now >= self.asks_at:
            statement = take_leadership(name=_NAME, holder=self._holder, lease=self._lease)
            [(is_leader, clock)] = self._database.fetch(statement)
            self._has_answered(now, clock)
            self._leads_until = now + self._lease if is_leader else 0.0
        return now < self._leads_until

    @property
    def asks_at(self) -> float:
        """When the ledger is to be asked next, by the monotonic clock; 0: at once."""
        if self._asked_at is None:
            return 0.0
        # Who leads has to be in time only for its own lease; who stands by, for the end of somebody else's. (To sleep for
        # half of a lease would look like a standstill.)
        return self._asked_at + self._lease / (3 if self._leads_until else 4)

    def _has_answered(self, now: float, clock: float) -> None:
        """Note the answer, and begin anew if the database's clock has jumped: a suspended machine's does not stand still."""
        if self._reachable_since is None or self._asked_at is None:
            self._reachable_since = now
        elif abs((clock - self._clock) - (now - self._asked_at)) > self._lease / 2:
            log.warning("maintenance.time_was_lost", seconds=round(clock - self._clock - now + self._asked_at, 1))
            self._reachable_since = now
        self._asked_at, self._clock = now, clock

    def _notice_standstill(self) -> None:
        """Begin anew if this process stood still: whatever froze it (a stopped container) may have frozen workers, too.

        They are to have a chance to renew their leases before anybody looks at them.
        """
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at > self._lease / 2:
            log.warning("maintenance.time_was_lost", seconds=round(now - self._looked_at, 1))
            self.lost_touch()
        self._looked_at = now

    def reachable_for(self) -> float:
        """For how many seconds PostgreSQL has answered this process without an interruption or a lost moment."""
        self._notice_standstill()
        return 0.0 if self._reachable_since is None else time.monotonic() - self._reachable_since

    def lost_touch(self) -> None:
        """PostgreSQL did not answer, or nobody asked: what happened meanwhile is not known."""
        self._asked_at = self._reachable_since = None
        self._leads_until = 0.0

    def give_up(self) -> None:
        """Let another process lead at once."""
        with self._database.transaction() as cursor:
            execute(cursor, give_up_leadership(name=_NAME, holder=self._holder))
        self._leads_until = 0.0
