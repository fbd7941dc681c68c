"""Reads from a standby of the ledger's PostgreSQL, whose data may be a little old, for as long as their age is known
and small.

The standby itself cannot tell its age: behind an idle primary, the last replayed transaction is old although nothing is
missing, and a paused replay looks the same. So each look reads a row that the leader of maintenance writes on the
primary every second or so (``leader.beat_at``). The log is replayed in its order, so everything that was committed
before that moment is there, too. The transaction that reads also reads this row, because another connection may lead to
another standby.

Whatever is wrong with the replica, the primary answers that read instead; this is counted, and the replica is tried
again a few seconds later.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import psycopg2

from ledgerq_shared import outages
from ledgerq_shared.connecting import describe
from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown, Unavailable
from ledgerq_shared.faults import Fault
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.postgres.prepared import Session
from ledgerq_shared.postgres.replica_metrics import Reason, counts
from ledgerq_shared.postgres.sqlstates import fault_of
from ledgerq_shared.process.timers import if_longer_than
from ledgerq_shared.settings import SettingsError, StoreSettings
from ledgerq_shared.statements.read_replica import ReplicaAge, read_age, read_identity

T = TypeVar("T")

#: Seconds for which a replica that failed is left alone. After that a single look tries it, so that other looks need
#: not wait.
_REST = 3.0
#: Seconds that the first, small query may take, and that connecting may take; libpq accepts no shorter time to connect.
_ANSWERS_WITHIN, _CONNECTS_WITHIN = 2.0, 2
#: How much longer a look may take than its statements, in seconds.
_MARGIN = 1.0
#: Seconds after which the primary is asked again which ledger it has and what time it is there.
_ASK_EVERY = 60.0
#: By how many seconds a beat may be ahead of what is taken for the primary's time; if it is further ahead, the age is
#: unknown.
_AHEAD = 1.0


class Seen(NamedTuple, Generic[T]):
    """What a look returned.

    Attributes:
        as_of: everything that was committed before this time is in the answer; None: the primary answered, so the
            answer is not old.
    """

    value: T
    as_of: datetime | None


class _NotUsed(Exception):
    """The replica cannot be used for a look, and why. ``stays``: it cannot be used for the next look, either."""

    def __init__(self, reason: Reason, text: str, *, stays: bool = True) -> None:
        super().__init__(text)
        self.reason, self.stays = reason, stays


@dataclass(frozen=True)
class _Primary:
    identity: str
    #: The table that is read, by its number (OID).
    table: int | None
    #: The primary's time minus the monotonic clock; and when the primary was asked, by that clock. In seconds.
    ahead: float
    asked_at: float


class Replica:
    """A standby of ``ledger``. It does not connect before the first look.

    Args:
        url: as :func:`ledgerq_shared.connecting.check` takes a replica's.
        ledger: the primary.
        application_name: shown in ``pg_stat_activity``.
        size: how many looks may run at the same time.
        max_lag: how old its data may be, in seconds.
        statement_timeout: seconds that a statement of a look may take.
    """

    def __init__(
        self,
        url: str,
        ledger: Database,
        *,
        application_name: str,
        size: int,
        max_lag: float,
        statement_timeout: float,
        debug: bool = False,
    ) -> None:
        self.max_lag = max_lag
        self._ledger = ledger
        self._database = Database(
            url,
            application_name=application_name,
            size=size,
            connect_timeout=_CONNECTS_WITHIN,
            debug=debug,
            is_replica=True,
            # The host of a server that stands still goes on acknowledging; a caller waits no longer than it would for a
            # slow server.
            checks_socket=True,
            answers_within=statement_timeout + _MARGIN,
        )
        limit = f"SET LOCAL statement_timeout = {math.ceil(statement_timeout * 1000)}; "
        self._first = read_age()._replace(sql=limit + read_age().sql)
        self._lock = threading.Lock()
        self._known: _Primary | None = None
        self._tried_at = 0.0
        self._why = Reason.UNKNOWN
        counts.is_shown = True

    def look(
        self,
        work: Callable[[Cursor], T],
        otherwise: Callable[[], T],
        *,
        timeout: float = 30.0,
        not_before: datetime | None = None,
    ) -> Seen[T]:
        """What ``work`` returns, which only reads; or what ``otherwise`` returns, if the replica cannot be used.

        Args:
            timeout: seconds to wait for a free connection.
            not_before: data older than this are too old, too, for callers that must not see time run backwards.

        Raises:
            Whatever ``otherwise`` raises, and what ``work`` raises unless it is the replica's fault.
        """
        if not self._is_tried():
            counts.fell_back(self._why)
            return Seen(otherwise(), None)
        try:
            seen = self._tried(work, timeout, not_before)
        except _NotUsed as error:
            self._not_used(error)
            return Seen(otherwise(), None)
        counts.read()
        _has_worked()
        return seen

    def now(self) -> datetime:
        """The time in the ledger: nothing that this process has seen so far is later."""
        try:
            return datetime.fromtimestamp(self._primary().ahead + time.monotonic(), UTC)
        except _NotUsed:
            return datetime.now(UTC)

    def check(self) -> None:
        """Refuse to work with a server that shows another ledger. A server that is away, or is not a standby, is just
        not used.

        Raises:
            SettingsError
        """
        try:
            with self._database.transaction(_ANSWERS_WITHIN, writes=False) as cursor:
                [shown] = execute(cursor, read_identity())
            primary = self._primary()
        except (Unavailable, _NotUsed, psycopg2.Error):
            return  # the first look will show it
        # A table that does not exist there yet may still be replicated.
        if shown.identity != primary.identity or shown.table not in (None, primary.table):
            raise SettingsError(
                "DATABASE_REPLICA_URL: this server's database is no copy of that of DATABASE_URL (another cluster, or "
                "another database of it): name a standby that follows it, and the same database"
            )

    def would_be_used(self) -> tuple[bool, str]:
        """Whether a look would use it now; and, in one line, how old it is or why it would not be used."""
        try:
            as_of = self._tried(lambda _: None, 30.0, None).as_of
        except _NotUsed as error:
            return False, say("not used: {why}", why=error.args[0])
        assert as_of is not None
        behind = max((self.now() - as_of).total_seconds(), 0.0)
        return True, say("follows, {behind:.1f} s behind at most", behind=behind)

    def close(self) -> None:
        """Close the idle connections."""
        self._database.close()

    def _tried(self, work: Callable[[Cursor], T], timeout: float, not_before: datetime | None) -> Seen[T]:
        try:
            with self._database.transaction(timeout, writes=False) as cursor:
                as_of = self._as_of(cursor, not_before)
                return Seen(work(cursor), as_of)
        except (LedgerUnavailable, OutcomeUnknown) as error:
            is_conflict = str(getattr(error.__cause__, "pgcode", None) or "").startswith("40")
            reason = Reason.CONFLICT if is_conflict else Reason.AWAY
            raise _NotUsed(reason, error.said, stays=not is_conflict) from error
        except psycopg2.Error as error:
            if fault_of(error) is Fault.REFUSE:
                raise  # the error would be the same on the primary
            raise _NotUsed(Reason.UNKNOWN, say("it does not take the read: {why}", why=describe(error))) from error

    def _as_of(self, cursor: Cursor, not_before: datetime | None) -> datetime:
        """Up to what time the server shows the right ledger; raises if it cannot be used."""
        connection = cursor.connection
        assert isinstance(connection, Session)
        with if_longer_than(_ANSWERS_WITHIN, connection.hang_up):
            [shown] = execute(cursor, self._first)
        primary = self._primary()
        as_of = _checked(shown, primary)
        age = primary.ahead + time.monotonic() - as_of.timestamp()
        if age < -_AHEAD:
            raise _NotUsed(
                Reason.UNKNOWN,
                say("its age is not known: it is {ahead:.1f} s ahead of the primary's clock", ahead=-age),
            )
        if age > self.max_lag:
            text = say(
                "it shows what was {age:.1f} s ago, or nobody has led maintenance since; "
                "LEDGERQ_REPLICA_MAX_LAG is {most:g}",
                age=age,
                most=self.max_lag,
            )
            raise _NotUsed(Reason.TOO_OLD, text)
        if not_before is not None and as_of < not_before:
            raise _NotUsed(Reason.TOO_OLD, say("it is older than what was shown before"), stays=False)
        return as_of

    def _primary(self) -> _Primary:
        """What is known of the primary. While the primary is away, the earlier knowledge still holds, because the age
        grows all the same.
        """
        known, asked_at = self._known, time.monotonic()
        if known is not None and asked_at - known.asked_at < _ASK_EVERY:
            return known
        try:
            [found] = self._ledger.fetch(read_identity(), _ANSWERS_WITHIN)
        except (Unavailable, psycopg2.Error):
            if known is None:
                raise _NotUsed(Reason.UNKNOWN, say("there is no primary to compare it with")) from None
            return known
        self._known = known = _Primary(found.identity, found.table, found.clock - asked_at, asked_at)
        return known

    def _is_tried(self) -> bool:
        """Whether this look tries the replica; while the replica fails, a look does so now and then."""
        if not outages.REPLICA.is_on:
            return True
        with self._lock:
            now = time.monotonic()
            if now - self._tried_at < _REST:
                return False
            self._tried_at = now
            return True

    def _not_used(self, error: _NotUsed) -> None:
        counts.fell_back(error.reason)
        if not error.stays:
            _has_worked()
            return
        with self._lock:
            self._tried_at, self._why = time.monotonic(), error.reason
            self._known = None  # perhaps the primary has changed
        outages.REPLICA.failed(str(error))


def _has_worked() -> None:
    if outages.REPLICA.is_on:
        outages.REPLICA.worked()


def look(
    replica: Replica | None,
    work: Callable[[Cursor], T],
    otherwise: Callable[[Callable[[Cursor], T]], T],
    *,
    timeout: float,
    not_before: datetime | None = None,
) -> Seen[T]:
    """As :meth:`Replica.look`; where there is no replica, what ``otherwise`` makes of ``work`` on the primary."""
    if replica is None:
        return Seen(otherwise(work), None)
    return replica.look(work, partial(otherwise, work), timeout=timeout, not_before=not_before)


def open_replica(
    stores: StoreSettings,
    ledger: Database,
    *,
    application_name: str,
    size: int,
    statement_timeout: float,
    debug: bool = False,
) -> Replica | None:
    """The replica of ``ledger`` that the settings name, not connected yet; None if they name none. See
    :class:`Replica`.
    """
    if stores.database_replica_url is None:
        return None
    return Replica(
        stores.database_replica_url,
        ledger,
        application_name=application_name,
        size=size,
        max_lag=stores.ledgerq_replica_max_lag,
        statement_timeout=statement_timeout,
        debug=debug,
    )


def _checked(shown: ReplicaAge, primary: _Primary) -> datetime:
    if (shown.identity, shown.table) != (primary.identity, primary.table):
        raise _NotUsed(Reason.OTHER_LEDGER, say("it shows another cluster's or database's ledger"))
    if not shown.is_standby:
        raise _NotUsed(Reason.NOT_A_STANDBY, say("it is no standby: a primary, or one that was promoted"))
    if shown.beat_at is None:
        raise _NotUsed(
            Reason.UNKNOWN, say("its age is not known: nobody leads maintenance, or one of an older release")
        )
    return shown.beat_at.astimezone(UTC)
