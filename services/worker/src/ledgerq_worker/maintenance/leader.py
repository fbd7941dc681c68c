"""Leadership of maintenance: one process leads, by a row with a lease that follows the database's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

import structlog

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.leader import give_up_leadership, take_leadership
from ledgerq_worker.maintenance.pulse import Pulse
from ledgerq_worker.maintenance.witness import Seen, Witness

log = structlog.get_logger()

_NAME = "maintenance"


class Leadership:
    """Whether this process leads, and for how long it has had an answer from PostgreSQL.

    Args:
        lease: seconds.
        pulse: knows whether this process stood still.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease: float,
        pulse: Pulse | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._now = clock
        self._lease = lease
        self._pulse = pulse or Pulse()
        self._holder = uuid4()
        self._witness = Witness(database, lease=lease)
        self._asked_at: float | None = None
        self._reachable_since: float | None = None
        self._leads_until = 0.0
        self._answered_at = self._clock = 0.0

    def leads(self) -> bool:
        """Whether this process leads now. It asks the ledger as often as the lease requires.

        Raises:
            LedgerUnavailable: PostgreSQL is away; when it answers again, another process may lead.
        """
        if self._now() >= self.asks_at:
            self._ask()
        return self.is_leading

    def _ask(self) -> None:
        began = self._now()
        statement = take_leadership(name=_NAME, holder=self._holder, lease=self._lease)
        [row] = self._database.fetch(statement, writes=True)
        ended = self._now()
        is_new = self._has_answered(began, ended, row.clock)
        self._leads_until = began + self._lease if row.until is not None else 0.0
        found = Seen(row.found_holder, row.found_until or 0.0, row.clock, began, ended)
        left = found if row.until is None else found._replace(holder=str(self._holder), until=row.until)
        self._witness.compare(found, left)
        if is_new:
            self._witness.connected()

    @property
    def is_leading(self) -> bool:
        """Whether this process leads, as far as it knows. It does not ask the ledger, so any thread may call it."""
        return self._now() < self._leads_until

    @property
    def asks_at(self) -> float:
        """When the ledger is to be asked next, by the monotonic clock; 0: at once."""
        if self._asked_at is None:
            return 0.0
        # The leader only has to renew its own lease in time; a process that stands by has to see when the leader's
        # lease ends.
        return self._asked_at + self._lease / (3 if self._leads_until else 4)

    def _has_answered(self, began: float, ended: float, clock: float) -> bool:
        """Note the answer, and start anew if the database's clock has jumped, because the clock of a suspended machine
        goes on.

        The clock was read at some moment between ``began`` and ``ended``, so a long wait for the answer is not a jump.

        Returns:
            Whether it is the first answer, or the first one after an outage.
        """
        is_new = self._reachable_since is None or self._asked_at is None
        if self._reachable_since is None or self._asked_at is None:
            self._reachable_since = ended
        else:
            passed = clock - self._clock
            lost = max(passed - (ended - self._asked_at), (began - self._answered_at) - passed)
            if lost > self._pulse.patience:
                log.warning("maintenance.time_was_lost", seconds=round(lost, 1))
                self._reachable_since = ended
        self._asked_at, self._answered_at, self._clock = began, ended, clock
        return is_new

    def reachable_for(self) -> float:
        """For how many seconds up to now PostgreSQL has answered this process without an interruption and without lost
        time. It reads PostgreSQL's clock once more.

        Raises:
            LedgerUnavailable: it does not answer.
        """
        self._ask()
        if self._reachable_since is None or not self.is_leading:
            return 0.0
        return self._now() - max(self._reachable_since, self._pulse.awake_since())

    def lost_touch(self) -> None:
        """Note that PostgreSQL did not answer: it is not known what happened meanwhile."""
        self._asked_at = self._reachable_since = None
        self._leads_until = 0.0

    def give_up(self) -> None:
        """Let another process lead at once."""
        with self._database.transaction() as cursor:
            execute(cursor, give_up_leadership(name=_NAME, holder=self._holder))
        self._leads_until = 0.0
