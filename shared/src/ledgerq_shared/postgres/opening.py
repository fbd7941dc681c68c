"""The statements that open a transaction: they are sent with its first statement, so that they cost no round trip of
their own.

An operator's settings for the role or the database (time limits, isolation, read-only) have no effect: a session that
only we use sets once what its transactions need; behind a pooler, each transaction sets it.
"""

from __future__ import annotations

import itertools
from typing import Any

import psycopg2.extensions
import structlog

from ledgerq_shared.postgres.prepared import Session

log = structlog.get_logger()

#: Milliseconds that a transaction may stand still. PostgreSQL notices only by the kernel's keepalives, after two hours,
#: that a client's host has vanished in the middle of a transaction. Until then its locks would hold up the processes
#: that go on with the same tasks. So this is half of the time after which the loss is noticed.
_STANDS_STILL_FOR = 5_000
#: The properties of transactions in a session that only we use, unless a transaction sets others.
_TRANSACTIONS = (
    "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; "
    "SET default_transaction_deferrable = off; "
)


class Opening:
    """The opening statements for each kind of transaction, and the cursors that send them.

    Args:
        lock_timeout: seconds.
        debug: log every statement.
    """

    def __init__(self, *, lock_timeout: float, debug: bool) -> None:
        limits = {
            "lock_timeout": round(lock_timeout * 1000),
            "statement_timeout": 0,
            "idle_in_transaction_session_timeout": _STANDS_STILL_FOR,
            "client_min_messages": "warning",
        }
        #: The settings that a session gets once, if only we use it.
        self.once = _TRANSACTIONS + "".join(f"SET {name} = {value}; " for name, value in limits.items())
        self._debug = debug
        each = "".join(f"SET LOCAL {name} = {value}; " for name, value in limits.items())
        #: By whether only we use the session, and by the kind of transaction (``writes``, ``lasts``).
        self._begin: dict[tuple[bool, bool, bool], str] = {}
        #: The same, for several statements in one message, which are a transaction by themselves.
        self._alone: dict[tuple[bool, bool, bool], str] = {}
        for writes, lasts in itertools.product((True, False), repeat=2):
            waits = "SET LOCAL synchronous_commit = off; " if writes and not lasts else ""
            mode = "READ WRITE" if writes else ""
            # A standby refuses at once a transaction that says that it writes.
            self._begin[True, writes, lasts] = f"BEGIN {mode}; {waits}"
            self._alone[True, writes, lasts] = f"SET LOCAL TRANSACTION {mode}; {waits}" if writes else ""
            level = f"ISOLATION LEVEL READ COMMITTED {mode}"
            self._begin[False, writes, lasts] = f"BEGIN {level}; {each}{waits}"
            self._alone[False, writes, lasts] = f"SET LOCAL TRANSACTION {level}; {each}{waits}"

    def transaction(self, session: Session, *, writes: bool, lasts: bool) -> Transaction:
        """A cursor that begins a transaction with its first statement."""
        cursor = session.cursor(cursor_factory=_LoggingTransaction if self._debug else Transaction)
        cursor.first = self._begin[session.is_ours, writes, lasts]
        return cursor

    def alone(self, session: Session, *, writes: bool, lasts: bool, more: str = "") -> psycopg2.extensions.cursor:
        """A cursor whose statements are each a transaction by themselves.

        Args:
            more: further settings to send before each statement.
        """
        cursor = session.cursor(cursor_factory=_LoggingAlone if self._debug else _Alone)
        cursor.first = self._alone[session.is_ours, writes, lasts] + more
        return cursor


class Transaction(psycopg2.extensions.cursor):
    """A cursor whose transaction begins with its first statement, in the same round trip."""

    #: The text that is sent before the next statement; empty once it was sent.
    first = ""
    #: Whether the COMMIT waits for synchronous standbys even if nothing was written.
    confirms = False

    @property
    def needs_commit(self) -> bool:
        """Whether the transaction has to be committed. It does not if nothing began it, unless its caller wants the
        COMMIT for its wait alone: what it answers then depends on other transactions.
        """
        return self.confirms or not self.first

    def execute(self, query: Any, params: Any = None) -> None:
        """As psycopg2's method."""
        first, self.first = self.first, ""
        super().execute(first + query, params)


class _Alone(psycopg2.extensions.cursor):
    #: The text that is sent before each statement.
    first = ""

    def execute(self, query: Any, params: Any = None) -> None:
        super().execute(self.first + query, params)


class _LoggingCursor(psycopg2.extensions.cursor):
    def execute(self, query: Any, params: Any = None) -> None:
        log.debug("database.statement", sql=" ".join(str(query).split())[:2000])
        super().execute(query, params)


class _LoggingTransaction(Transaction, _LoggingCursor):
    pass


class _LoggingAlone(_Alone, _LoggingCursor):
    pass
