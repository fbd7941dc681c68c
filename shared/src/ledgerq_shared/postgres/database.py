"""The ledger's database: one way to open a transaction, one way to run a statement, one meaning for each error.

All database code is synchronous psycopg2; the API runs it in its batchers' threads. Nothing here relies on session
state, so a PgBouncer in transaction mode may stand in between; without one, sessions keep the busiest statements
prepared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg2
import psycopg2.extensions
import structlog

from ledgerq_shared import outages
from ledgerq_shared.errors import LedgerFull, LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.faults import Fault
from ledgerq_shared.languages import Said, say
from ledgerq_shared.postgres.doubts import Doubts
from ledgerq_shared.postgres.opening import Opening, Transaction
from ledgerq_shared.postgres.pool import Pool, reason
from ledgerq_shared.postgres.prepared import Session, run
from ledgerq_shared.postgres.sqlstates import fault_of, is_full, refuses_writes
from ledgerq_shared.process.timers import if_longer_than
from ledgerq_shared.sql import Row, Statement

Cursor = psycopg2.extensions.cursor
log = structlog.get_logger()

#: If the server's host does not acknowledge sent data for this many seconds, the connection is lost.
_UNANSWERED_AFTER = 15.0
#: Seconds that a statement waits for a lock at most, because others wait for the locks that it has; then the caller
#: tries again.
_LOCK_TIMEOUT = 3.0
#: A COMMIT waits for synchronous standbys only if its transaction has written. So a transaction that finds that an
#: earlier one, of unknown outcome, has done everything writes this: a record in the write-ahead log that is in no table
#: and that nobody reads. Without synchronous standbys there is nothing to wait for: what a transaction sees is on disk.
_CONFIRM = (
    "SELECT pg_logical_emit_message(true, 'ledgerq', 'confirmed') "
    "WHERE current_setting('synchronous_standby_names') <> '';"
)


class Database:
    """One PostgreSQL database, reached through a pool of connections.

    Args:
        url: libpq URL; if it names several servers, the primary is used (:mod:`ledgerq_shared.connecting`).
        application_name: shown in ``pg_stat_activity``: which process holds a connection.
        size: how many connections are open at most; a thread that finds none free waits for one.
        connect_timeout: seconds.
        debug: log every statement.
        lock_timeout: seconds that a statement waits for a lock, whatever the operator has set; then PostgreSQL refuses
            it, and it may be tried again.
        unanswered_after: if the server's host does not acknowledge sent data for this many seconds, the connection is
            lost.
        commit_patience: seconds that a COMMIT may wait for standbys before the wait is given up, as an unknown outcome;
            None: for ever.
        answers_within: when a connection has been in one use for this many seconds, the pool asks over another
            connection whether a server process works on the statement. If none does (the leader is frozen and another
            one leads, or something in between has forgotten the connection), the pool closes the connection
            (:mod:`ledgerq_shared.postgres.upkeep`).
        waits_for_work: False: the pool then closes the connection in any case. This is used for a replica, because
            another one of several would answer.
        spare: returns how many unused connections to keep open, and is called each second; further ones are closed
            after ten seconds. None: all are kept.
        keeps_statements: named statements stay prepared if that is possible (:mod:`ledgerq_shared.postgres.prepared`). This
            is for processes that run the same few statements all day and read no whole tables.
        is_brief: its process ends with the first failure and reports it itself, so no outage is logged.
        is_replica: the database is not the ledger but a replica of it (:mod:`ledgerq_shared.postgres.replica`, which logs
            its outages): of several servers, one that is a standby is used.
        checks_socket: check each time that the connection's socket is still its own. This is for processes in which
            tasks run, which may close or replace any descriptor.
    """

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        size: int = 4,
        connect_timeout: int = 5,
        debug: bool = False,
        lock_timeout: float = _LOCK_TIMEOUT,
        keeps_statements: bool = False,
        unanswered_after: float = _UNANSWERED_AFTER,
        commit_patience: float | None = None,
        checks_socket: bool = False,
        is_brief: bool = False,
        is_replica: bool = False,
        answers_within: float = 5.0,
        waits_for_work: bool = True,
        spare: Callable[[], int] | None = None,
    ) -> None:
        self._commit_patience = commit_patience
        self._is_replica = is_replica
        self._tells_of_outages = not (is_brief or is_replica)
        self._doubts = Doubts()
        self._opening = Opening(lock_timeout=lock_timeout, debug=debug)
        self._pool = Pool(
            url,
            application_name=application_name,
            size=size,
            connect_timeout=connect_timeout,
            once=self._opening.once,
            keeps_statements=keeps_statements,
            unanswered_after=unanswered_after,
            checks_socket=checks_socket,
            is_replica=is_replica,
            tells_of_outages=self._tells_of_outages,
            answers_within=answers_within,
            waits_for_work=waits_for_work,
            spare=spare,
        )

    @contextlib.contextmanager
    def transaction(self, timeout: float = 30.0, *, writes: bool = True, lasts: bool = True) -> Iterator[Cursor]:
        """A cursor in a transaction that is committed at the end, or rolled back after an exception. The transaction
        begins with its first statement.

        Args:
            timeout: seconds to wait for a free connection.
            writes: False: a read-only server (a standby) will do.
            lasts: False: the written data matter only while this server lives, so the COMMIT waits for no disk and no
                standby.

        Raises:
            LedgerUnavailable: PostgreSQL is away, or refused it just now (``is_busy``); nothing was recorded.
            OutcomeUnknown: the connection was lost during COMMIT, or PostgreSQL has committed without waiting for its
                standbys.
        """
        with self._pool.session(timeout) as connection:
            yield from self._in_transaction(connection, writes, lasts)
        self._has_worked(writes=writes)

    @contextlib.contextmanager
    def reads(self, timeout: float = 30.0, *, statement_timeout: float = 0.0) -> Iterator[Cursor]:
        """A cursor whose statements only read. Each is a transaction by itself, so there are no further round trips.

        Args:
            timeout: seconds to wait for a free connection.
            statement_timeout: seconds after which PostgreSQL ends a statement; 0: never.

        Raises:
            LedgerUnavailable: PostgreSQL is away, or refused it just now (``is_busy``).
        """
        with self._pool.session(timeout) as connection:
            limit = f"SET LOCAL statement_timeout = {round(statement_timeout * 1000)}; " if statement_timeout else ""
            cursor = self._opening.alone(connection, writes=False, lasts=True, more=limit)
            with self._explained(connection):
                yield cursor
        self._has_worked(writes=False)

    def fetch(
        self, statement: Statement[Row], timeout: float = 30.0, *, writes: bool = False, lasts: bool = True
    ) -> list[Row]:
        """The rows of one statement that may be run twice. It is a transaction by itself, in one round trip.

        Args:
            timeout: seconds to wait for a free connection.
            writes: whether the statement writes.
            lasts: as in :meth:`transaction`.

        Raises:
            LedgerUnavailable: PostgreSQL is away, or refused it just now (``is_busy``); what the statement writes may or
                may not have been recorded.
        """
        with self._pool.session(timeout) as connection:
            doubts = self._doubts.to_settle if writes and lasts else 0
            cursor = self._opening.alone(connection, writes=writes, lasts=lasts, more=_CONFIRM if doubts else "")
            _forget_notices(connection)
            with self._explained(connection), self._limited(connection, writes):
                rows = execute(cursor, statement)
            if writes and connection.notices:
                raise LedgerUnavailable(self._not_waited(connection), is_busy=True)
            self._doubts.settle(doubts)
        self._has_worked(writes=writes)
        return rows

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def _has_worked(self, *, writes: bool) -> None:
        """Note that a transaction has ended well: during an outage, this may mean that the outage is over."""
        if self._is_replica:
            return
        if outages.POSTGRESQL.is_on:
            outages.POSTGRESQL.worked(is_same_kind=False)
        if writes and outages.POSTGRESQL_WRITES.is_on:
            outages.POSTGRESQL_WRITES.worked(is_same_kind=False)

    def _in_transaction(self, connection: Session, writes: bool, lasts: bool) -> Iterator[Cursor]:
        try:
            cursor = self._opening.transaction(connection, writes=writes, lasts=lasts)
            yield cursor
        except psycopg2.Error as error:
            _roll_back(connection)
            if unavailable := self._unavailable(connection, error):
                raise unavailable from error
            raise
        except BaseException:
            _roll_back(connection)
            raise
        if not cursor.needs_commit:
            return
        doubts = self._doubts.to_settle if writes and lasts else 0
        _forget_notices(connection)
        try:
            with self._limited(connection, writes):
                cursor.execute(f"{_CONFIRM} COMMIT" if doubts or cursor.confirms else "COMMIT")
        except psycopg2.Error as error:
            _roll_back(connection)
            unavailable = self._unavailable(connection, error)
            if unavailable and not is_rolled_back(error):
                self._doubts.arise()
                raise OutcomeUnknown from error
            raise unavailable or error from error
        if connection.notices:
            raise OutcomeUnknown(self._not_waited(connection))
        self._doubts.settle(doubts)

    def _not_waited(self, connection: Session) -> Said:
        """Raise, because a COMMIT came with a warning: it is done, but it did not wait until a standby had it."""
        warning = str(connection.notices[0]).strip().splitlines()[0]
        _forget_notices(connection)
        self._doubts.arise()
        log.warning("database.commit_in_doubt", warning=warning)
        return say("PostgreSQL has committed, and perhaps no standby has it: {warning}", warning=warning)

    def _limited(self, connection: Session, writes: bool) -> contextlib.AbstractContextManager[None]:
        """Give up a COMMIT's wait for standbys after ``commit_patience``, if that is set."""
        return if_longer_than(self._commit_patience if writes else None, partial(self._pool.cancel, connection))

    @contextlib.contextmanager
    def _explained(self, connection: Session) -> Iterator[None]:
        """For statements that are transactions by themselves: turn an error that passes into one that says so."""
        try:
            yield
        except psycopg2.Error as error:
            _close_if_lost(connection)
            if unavailable := self._unavailable(connection, error):
                raise unavailable from error
            raise

    def _unavailable(self, connection: Session, error: psycopg2.Error) -> LedgerUnavailable | None:
        """The error to raise if the same work may simply be done again; otherwise None. It closes a connection whose
        state does not pass.
        """
        fault = fault_of(error)
        if fault not in (Fault.REPEAT, Fault.RECONNECT):
            return None
        kind = LedgerFull if is_full(error) else LedgerUnavailable
        unavailable = kind(reason(error), is_busy=fault is Fault.REPEAT)
        if refuses_writes(error) and self._tells_of_outages:
            outages.POSTGRESQL_WRITES.failed(unavailable.detail)
        # A lost connection is not yet an outage: the next connection will show whether there is one.
        unavailable.is_told = refuses_writes(error) or outages.POSTGRESQL.is_on
        if fault is Fault.REPEAT:
            return unavailable
        if connection.has_lost_statements(error):
            # A pooler shares our sessions without showing it: from now on prepare nothing.
            self._pool.keeps_statements = False
        connection.close()
        return unavailable


def execute(cursor: Cursor, statement: Statement[Row]) -> list[Row]:
    """Run a statement; returns its rows, or an empty list if it returns none."""
    run(cursor, statement)
    if cursor.description is None:
        return []
    rows: list[Any] = cursor.fetchall()
    return rows if statement.row is None else [*map(statement.row, rows)]


def confirm(cursor: Cursor) -> None:
    """Let this transaction's COMMIT wait for synchronous standbys even if it writes nothing. The answer that follows
    depends on what other transactions have written, and nobody knows whether their COMMITs have waited. This costs no
    round trip.

    Args:
        cursor: one of :meth:`Database.transaction`.
    """
    assert isinstance(cursor, Transaction), "only a transaction has a COMMIT that can wait"
    cursor.confirms = True


def confirmation() -> Statement[tuple[str]]:
    """The statement that :func:`confirm` adds to the COMMIT. Its row is the position of the record in the write-ahead
    log; there is none without synchronous standbys.
    """
    return Statement(_CONFIRM, {})


def is_rolled_back(error: psycopg2.Error) -> bool:
    """Whether ``error``, the answer to a COMMIT, says that nothing was committed; otherwise the outcome is unknown."""
    return str(error.pgcode or "").startswith("40") and error.pgcode != "40003"


def _forget_notices(connection: psycopg2.extensions.connection) -> None:
    if connection.notices:
        connection.notices.clear()


def _roll_back(connection: Session) -> None:
    if not connection.is_usable:
        return
    with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
        cursor.execute("ROLLBACK")
    _close_if_lost(connection)


def _close_if_lost(connection: psycopg2.extensions.connection) -> None:
    if connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_UNKNOWN:
        connection.close()
