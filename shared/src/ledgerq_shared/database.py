"""The ledger's database: one way to open a transaction, one way to run a statement, one meaning for each error.

All database code is synchronous psycopg2; the API runs it in its batchers' threads. Nothing here relies on session
state, so a PgBouncer in transaction mode may stand between; without one, sessions keep the busiest statements prepared.
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
from ledgerq_shared.doubts import Doubts
from ledgerq_shared.errors import LedgerFull, LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.faults import Fault
from ledgerq_shared.opening import Opening
from ledgerq_shared.pool import Pool, reason
from ledgerq_shared.prepared import Session, run
from ledgerq_shared.sql import Row, Statement
from ledgerq_shared.sqlstates import fault_of, is_full, refuses_writes
from ledgerq_shared.timers import if_longer_than

Cursor = psycopg2.extensions.cursor
log = structlog.get_logger()

#: Sent data that the server's host does not acknowledge for this long means a lost connection, in seconds.
_UNANSWERED_AFTER = 15.0
#: Nobody waits longer for a lock, in seconds, and keeps others waiting for those that it has; then it tries again.
_LOCK_TIMEOUT = 3.0
#: A COMMIT waits for synchronous standbys only if its transaction has written. So whoever finds that an earlier one, of
#: which nothing is known, has done all, writes this: a record in the log that is in no table, and that nobody reads.
_CONFIRM = "SELECT pg_logical_emit_message(true, 'ledgerq', 'confirmed');"


class Database:
    """One PostgreSQL database, by a pool of connections.

    Args:
        url: libpq URL; of several servers the primary is meant (:mod:`ledgerq_shared.connecting`).
        application_name: shown in ``pg_stat_activity``: which process holds a connection.
        size: most connections kept open; a thread that finds none free waits for one.
        connect_timeout: seconds.
        debug: log every statement.
        lock_timeout: seconds that a statement waits for a lock, whatever the operator has set; then PostgreSQL
            refuses it, as one that may be tried again.
        unanswered_after: sent data that the server's host does not acknowledge for so many seconds means a lost connection.
        commit_patience: seconds that a COMMIT may wait for standbys before the wait is given up, as an unknown outcome;
            null: for ever.
        answers_within: after so many seconds in one use it is asked, over another connection, whether a server is at it. If
            none is (the leader is frozen and another one leads, something in between has forgotten the connection), this
            one is hung up (:mod:`ledgerq_shared.upkeep`).
        waits_for_work: false: it is hung up then, whoever is at it, or cannot be asked. So it is with a replica, for another
            of several would answer.
        spare: how many unused connections to keep open, asked each second; those beyond are closed after ten. Null: all.
        keeps_statements: named statements stay prepared where that is possible (:mod:`ledgerq_shared.prepared`). For
            processes that run the same few statements all day and read no table whole.
        is_brief: its process ends with the first failure and says so itself: no outage is told of.
        is_replica: it is no ledger but what shows one (:mod:`ledgerq_shared.replica`, which tells of its outages): of
            several servers one that is a standby is meant.
        checks_socket: look each time whether the connection's socket is still its own. For processes in which tasks run,
            which may close or replace any descriptor.
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
        """A cursor in a transaction that is committed at the end, or rolled back by an exception. PostgreSQL begins it
        with the first statement.

        Args:
            timeout: seconds to wait for a free connection.
            writes: false: a server that only reads (a standby) will do.
            lasts: false: what it writes is of use only while this server lives, so its COMMIT waits for no disk and no
                standby.

        Raises:
            LedgerUnavailable: PostgreSQL is away, or refused it just now (``is_busy``); nothing was recorded.
            OutcomeUnknown: the connection was lost during COMMIT, or PostgreSQL has committed and not waited for its
                standbys.
        """
        with self._pool.session(timeout) as connection:
            yield from self._in_transaction(connection, writes, lasts)
        self._has_worked(writes=writes)

    @contextlib.contextmanager
    def reads(self, timeout: float = 30.0, *, statement_timeout: float = 0.0) -> Iterator[Cursor]:
        """A cursor each of whose statements only reads, and is a transaction by itself: no round trip but theirs.

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
        """The rows of one statement that does no harm when it is run twice: a transaction by itself, in one round trip.

        Args:
            timeout: seconds to wait for a free connection.
            writes: whether it does.
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
        """A transaction came to its end: where an outage goes on, that may mean that it is over."""
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
        if cursor.first:
            return  # nothing was executed
        doubts = self._doubts.to_settle if writes and lasts else 0
        _forget_notices(connection)
        try:
            with self._limited(connection, writes):
                cursor.execute(f"{_CONFIRM} COMMIT" if doubts else "COMMIT")
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

    def _not_waited(self, connection: Session) -> str:
        """A COMMIT came with a warning: it is done, and nobody waited until a standby has it."""
        warning = str(connection.notices[0]).strip().splitlines()[0]
        _forget_notices(connection)
        self._doubts.arise()
        log.warning("database.commit_in_doubt", warning=warning)
        return f"PostgreSQL has committed, and perhaps no standby has it: {warning}"

    def _limited(self, connection: Session, writes: bool) -> contextlib.AbstractContextManager[None]:
        """Give up a wait for standbys after a while, where that was asked for."""
        return if_longer_than(self._commit_patience if writes else None, partial(self._pool.cancel, connection))

    @contextlib.contextmanager
    def _explained(self, connection: Session) -> Iterator[None]:
        """For statements that are transactions by themselves: an error that passes becomes one that says so."""
        try:
            yield
        except psycopg2.Error as error:
            _close_if_lost(connection)
            if unavailable := self._unavailable(connection, error):
                raise unavailable from error
            raise

    def _unavailable(self, connection: Session, error: psycopg2.Error) -> LedgerUnavailable | None:
        """What to raise where the same work may just be done again; else null. Closes a connection whose state stays."""
        fault = fault_of(error)
        if fault not in (Fault.REPEAT, Fault.RECONNECT):
            return None
        kind = LedgerFull if is_full(error) else LedgerUnavailable
        unavailable = kind(reason(error), is_busy=fault is Fault.REPEAT)
        if refuses_writes(error) and self._tells_of_outages:
            outages.POSTGRESQL_WRITES.failed(unavailable.detail)
        # A connection that was lost is no outage: whether there is one, the next connection tells.
        unavailable.is_told = refuses_writes(error) or outages.POSTGRESQL.is_on
        if fault is Fault.REPEAT:
            return unavailable
        if connection.has_lost_statements(error):
            # Something passes our sessions on to others and does not say so: from now on do without.
            self._pool.keeps_statements = False
        connection.close()
        return unavailable


def execute(cursor: Cursor, statement: Statement[Row]) -> list[Row]:
    """Run a statement; its rows, or none where it returns none."""
    run(cursor, statement)
    if cursor.description is None:
        return []
    rows: list[Any] = cursor.fetchall()
    return rows if statement.row is None else [*map(statement.row, rows)]


def confirm(cursor: Cursor) -> None:
    """Let this transaction's COMMIT wait for synchronous standbys even if it writes nothing: the answer that follows it
    vouches for what others have written, and nobody knows whether they have waited.
    """
    cursor.execute(_CONFIRM)


def confirmation() -> Statement[tuple[str]]:
    """What :func:`confirm` runs. Its row: where in the log that was written."""
    return Statement(_CONFIRM, {})


def is_rolled_back(error: psycopg2.Error) -> bool:
    """Whether ``error``, the answer to a COMMIT, says that nothing was committed; else nobody knows."""
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
