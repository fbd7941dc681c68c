"""One maintenance process leads: a row with a lease, by the database's clock."""

from __future__ import annotations

import time
from uuid import uuid4

from ledgerq_shared.database import Database, execute
from ledgerq_shared.statements.workers import give_up_leadership, take_leadership

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

    def leads(self) -> bool:
        """Whether this process leads now. Asks the ledger as often as the lease needs it.

        Raises:
            LedgerUnavailable: PostgreSQL is away; the leadership may be somebody else's by the time it answers.
        """
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at >= self._lease / 4:
            with self._database.transaction() as cursor:
                rows = execute(cursor, take_leadership(name=_NAME, holder=self._holder, lease=self._lease))
            self._asked_at = now
            self._leads_until = now + self._lease if rows else 0.0
            if self._reachable_since is None:
                self._reachable_since = now
        return now < self._leads_until

    def reachable_for(self) -> float:
        """For how many seconds PostgreSQL has answered this process without interruption."""
        return 0.0 if self._reachable_since is None else time.monotonic() - self._reachable_since

    def lost_touch(self) -> None:
        """PostgreSQL did not answer: what happened meanwhile is not known."""
        self._asked_at = self._reachable_since = None
        self._leads_until = 0.0

    def give_up(self) -> None:
        """Let another process lead at once."""
        with self._database.transaction() as cursor:
            execute(cursor, give_up_leadership(name=_NAME, holder=self._holder))
        self._leads_until = 0.0
