"""Connections to PostgreSQL: a small pool, one way to open a transaction, one way to run a statement.

All database code is synchronous psycopg2; the API runs it in its batchers' threads. Nothing here relies on session
state, so a PgBouncer in transaction mode may stand between; without one, sessions keep the busiest statements prepared.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg2
import psycopg2.extensions
import structlog

from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.prepared import Session, run
from ledgerq_shared.sql import Statement

type_cursor = psycopg2.extensions.cursor
log = structlog.get_logger()

#: SQLSTATE classes that mean "the server is not there for us now": connection, operator intervention, resources.
_OUTAGE_CLASSES = ("08", "57", "53")
#: Read-only (a standby, or a failing disk); a connection that was closed because its transaction stood still.
_OUTAGES = ("25006", "25P03")
#: Sent data that the server's host does not acknowledge for this long means a lost connection, in milliseconds.
_UNANSWERED_AFTER = 15_000
#: PostgreSQL notices only by the kernel's keepalives, after two hours, that a client's host has vanished in the middle of
#: a transaction. Until then its locks would hold up whoever goes on with the same tasks. (It goes with the first
#: statement, so it costs no round trip, and is good behind PgBouncer: the setting ends with the transaction.)
_BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '20s'; "


class Database:
    """A pool of connections to one PostgreSQL database.

    Args:
        url: libpq URL.
        application_name: shown in ``pg_stat_activity``: which process holds a connection.
        size: most connections kept open; a thread that finds none free waits for one.
        connect_timeout: seconds.
        debug: log every statement.
        keeps_statements: named statements stay prepared where that is possible (:mod:`ledgerq_shared.prepared`). For
            processes that run the same few statements all day and read no table whole.
    """

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        size: int = 4,
        connect_timeout: int = 5,
        debug: bool = False,
        keeps_statements: bool = False,
    ) -> None:
        self._url = url
        self._application_name = application_name
        self._connect_timeout = connect_timeout
        self._debug = debug
        self._keeps_statements = keeps_statements
        self._free: list[Session] = []
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(size)

    @contextlib.contextmanager
    def transaction(self, timeout: float = 30.0) -> Iterator[type_cursor]:
        """A cursor in a transaction that is committed at the end, or rolled back by an exception. PostgreSQL begins it
        with the first statement.

        Args:
            timeout: seconds to wait for a free connection.

        Raises:
            LedgerUnavailable: PostgreSQL is away; nothing was recorded.
            OutcomeUnknown: the connection was lost during COMMIT.
        """
        with self._pooled(timeout) as connection:
            yield from self._in_transaction(connection)

    def fetch(self, statement: Statement, timeout: float = 30.0) -> list[tuple[Any, ...]]:
        """The rows of one statement that does no harm when it is run twice: a transaction by itself, in one round trip.

        Args:
            timeout: seconds to wait for a free connection.

        Raises:
            LedgerUnavailable: PostgreSQL is away; what the statement writes may or may not have been recorded.
        """
        with self._pooled(timeout) as connection:
            try:
                return execute(connection.cursor(cursor_factory=_LoggingCursor if self._debug else None), statement)
            except psycopg2.Error as error:
                _close_if_lost(connection)
                if self._is_nothing_recorded(connection, error):
                    raise LedgerUnavailable(_reason(error)) from error
                raise

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    @contextlib.contextmanager
    def _pooled(self, timeout: float) -> Iterator[Session]:
        if not self._slots.acquire(timeout=timeout):
            raise LedgerUnavailable("All connections to PostgreSQL are busy; try again.")
        try:
            connection = self._connection()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._slots.release()

    def _in_transaction(self, connection: Session) -> Iterator[type_cursor]:
        try:
            cursor = connection.cursor(cursor_factory=_LoggingTransaction if self._debug else _Transaction)
            yield cursor
        except psycopg2.Error as error:
            _roll_back(connection)
            if self._is_nothing_recorded(connection, error):
                raise LedgerUnavailable(_reason(error)) from error
            raise
        except BaseException:
            _roll_back(connection)
            raise
        if not cursor.has_begun:
            return
        try:
            cursor.execute("COMMIT")
        except psycopg2.Error as error:
            _roll_back(connection)
            if is_outage(error):
                raise OutcomeUnknown from error
            raise

    def _is_nothing_recorded(self, connection: Session, error: psycopg2.Error) -> bool:
        """Whether the same work may just be tried again, on another connection."""
        if connection.has_lost_statements(error):
            # Something passes our sessions on to others and does not say so: from now on do without.
            self._keeps_statements = False
            connection.close()
            return True
        return is_outage(error)

    def _connection(self) -> Session:
        with self._lock:
            while self._free:
                connection = self._free.pop()
                if not connection.closed:
                    return connection
        try:
            connection = psycopg2.connect(
                self._url,
                application_name=self._application_name,
                connect_timeout=self._connect_timeout,
                # A host that vanished is noticed in seconds, not after the kernel's two hours.
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=_UNANSWERED_AFTER,
                connection_factory=Session,
            )
            connection.autocommit = True  # BEGIN and COMMIT are ours: see _BEGIN
            if self._keeps_statements:
                connection.keep_statements_if_possible()
        except psycopg2.OperationalError as error:
            raise LedgerUnavailable(_reason(error)) from error
        return connection

    def _give_back(self, connection: Session) -> None:
        if connection.closed:
            # After a restart of PostgreSQL every pooled connection is dead: do not make each caller find one out.
            self.close()
            return
        with self._lock:
            self._free.append(connection)


def execute(cursor: type_cursor, statement: Statement) -> list[tuple[Any, ...]]:
    """Run a statement; its rows, or none where it returns none."""
    run(cursor, statement)
    return cursor.fetchall() if cursor.description is not None else []


def is_outage(error: psycopg2.Error) -> bool:
    """Whether the error means that PostgreSQL is away or refuses everybody, rather than that a statement is wrong."""
    if isinstance(error, psycopg2.InterfaceError):
        return True
    code = error.pgcode
    if code is None:
        return isinstance(error, psycopg2.OperationalError)
    return code.startswith(_OUTAGE_CLASSES) or code in _OUTAGES


def _reason(error: psycopg2.Error) -> str:
    lines = str(error).strip().splitlines()
    return f"PostgreSQL cannot be reached: {lines[0] if lines else type(error).__name__}"


def is_passing(error: psycopg2.Error) -> bool:
    """Whether the same transaction may well succeed when it is run again: a deadlock, a serialization failure."""
    return str(error.pgcode or "").startswith("40")


def _roll_back(connection: psycopg2.extensions.connection) -> None:
    with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
        cursor.execute("ROLLBACK")
    _close_if_lost(connection)


def _close_if_lost(connection: psycopg2.extensions.connection) -> None:
    if connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_UNKNOWN:
        connection.close()


class _LoggingCursor(psycopg2.extensions.cursor):
    def execute(self, query: Any, params: Any = None) -> None:
        log.debug("database.statement", sql=" ".join(str(query).split())[:2000])
        super().execute(query, params)


class _Transaction(psycopg2.extensions.cursor):
    """Begins with its first statement, in the same round trip."""

    has_begun = False

    def execute(self, query: Any, params: Any = None) -> None:
        if not self.has_begun:
            self.has_begun = True
            query = _BEGIN + query
        super().execute(query, params)


class _LoggingTransaction(_Transaction, _LoggingCursor):
    pass
