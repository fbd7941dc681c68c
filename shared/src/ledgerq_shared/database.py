"""Connections to PostgreSQL: a small pool, one way to open a transaction, one way to run a statement.

All database code is synchronous psycopg2; the API runs it in its batchers' threads. Nothing here relies on session
state, so a PgBouncer in transaction mode may stand between; without one, sessions keep the busiest statements prepared.
What an operator has set for the role or the database (time limits, isolation, read-only) changes nothing: a session that
is ours alone says once what its transactions need; where a pooler stands between, each transaction does, in the round trip
of its first statement.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg2
import psycopg2.extensions
import structlog

from ledgerq_shared import outages
from ledgerq_shared.connecting import connect, describe
from ledgerq_shared.doubts import Doubts
from ledgerq_shared.errors import LedgerFull, LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.faults import Fault
from ledgerq_shared.prepared import Session, run
from ledgerq_shared.sql import Row, Statement
from ledgerq_shared.sqlstates import fault_of, is_full, refuses_writes
from ledgerq_shared.upkeep import Looks, at_work, cancel, look_after

Cursor = psycopg2.extensions.cursor
log = structlog.get_logger()

#: Sent data that the server's host does not acknowledge for this long means a lost connection, in seconds.
_UNANSWERED_AFTER = 15.0
#: PostgreSQL notices only by the kernel's keepalives, after two hours, that a client's host has vanished in the middle of
#: a transaction. Until then its locks would hold up whoever goes on with the same tasks: so not for longer than half of
#: the time that it takes to notice the loss. In milliseconds.
_STANDS_STILL_FOR = 5_000
#: Nobody waits longer for a lock, in seconds, and keeps others waiting for those that it has; then it tries again.
_LOCK_TIMEOUT = 3.0
#: A COMMIT waits for synchronous standbys only if its transaction has written. So whoever finds that an earlier one, of
#: which nothing is known, has done all, writes this: a record in the log that is in no table, and that nobody reads.
_CONFIRM = "SELECT pg_logical_emit_message(true, 'ledgerq', 'confirmed');"
#: So many looks in a row at a connection that nobody has used (one each second), and it is one too many.
_UNUSED_LOOKS = 10
#: What the transactions of a session that is ours alone are, unless they say otherwise.
_TRANSACTIONS = (
    "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; "
    "SET default_transaction_deferrable = off; "
)


class Database:
    """A pool of connections to one PostgreSQL database.

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
        self._url = url
        self._application_name = application_name
        self._connect_timeout = connect_timeout
        self._debug = debug
        self._keeps_statements = keeps_statements
        self._unanswered_after = unanswered_after
        self._commit_patience = commit_patience
        self._checks_socket = checks_socket
        self._is_replica = is_replica
        self._tells_of_outages = not (is_brief or is_replica)
        self._answers_within = math.ceil(answers_within)  # looks are counted
        self._waits_for_work = waits_for_work and not is_replica
        self._spare = spare
        self._looks: Looks | None = None
        self._doubts = Doubts()
        limits = {
            "lock_timeout": round(lock_timeout * 1000),
            "statement_timeout": 0,
            "idle_in_transaction_session_timeout": _STANDS_STILL_FOR,
            "client_min_messages": "warning",
        }
        self._once = _TRANSACTIONS + "".join(f"SET {name} = {value}; " for name, value in limits.items())
        each = "".join(f"SET LOCAL {name} = {value}; " for name, value in limits.items())
        #: By whether the session is ours, and what a transaction is for (``writes``, ``lasts``).
        self._begin: dict[tuple[bool, bool, bool], str] = {}
        #: As well, for several statements in one message, which are a transaction by themselves.
        self._alone: dict[tuple[bool, bool, bool], str] = {}
        for writes, lasts in itertools.product((True, False), repeat=2):
            waits = "SET LOCAL synchronous_commit = off; " if writes and not lasts else ""
            mode = "READ WRITE" if writes else ""
            # A standby refuses at once what says that it writes.
            self._begin[True, writes, lasts] = f"BEGIN {mode}; {waits}"
            self._alone[True, writes, lasts] = f"SET LOCAL TRANSACTION {mode}; {waits}" if writes else ""
            level = f"ISOLATION LEVEL READ COMMITTED {mode}"
            self._begin[False, writes, lasts] = f"BEGIN {level}; {each}{waits}"
            self._alone[False, writes, lasts] = f"SET LOCAL TRANSACTION {level}; {each}{waits}"
        self._free: list[Session] = []
        self._busy: set[Session] = set()
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(size)

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
        with self._pooled(timeout) as connection:
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
        with self._pooled(timeout) as connection:
            cursor = connection.cursor(cursor_factory=_LoggingAlone if self._debug else _Alone)
            cursor.first = self._alone[connection.is_ours, False, True]
            if statement_timeout:
                cursor.first += f"SET LOCAL statement_timeout = {round(statement_timeout * 1000)}; "
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
        with self._pooled(timeout) as connection:
            cursor = connection.cursor(cursor_factory=_LoggingAlone if self._debug else _Alone)
            doubts = self._doubts.to_settle if writes and lasts else 0
            cursor.first = self._alone[connection.is_ours, writes, lasts] + (_CONFIRM if doubts else "")
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
        with self._lock:
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def _has_worked(self, *, writes: bool) -> None:
        """A transaction came to its end: where an outage goes on, that may mean that it is over."""
        if self._is_replica:
            return
        if outages.POSTGRESQL.is_on:
            outages.POSTGRESQL.worked(is_same_kind=False)
        if writes and outages.POSTGRESQL_WRITES.is_on:
            outages.POSTGRESQL_WRITES.worked(is_same_kind=False)

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

    def _in_transaction(self, connection: Session, writes: bool, lasts: bool) -> Iterator[Cursor]:
        try:
            cursor = connection.cursor(cursor_factory=_LoggingTransaction if self._debug else _Transaction)
            cursor.first = self._begin[connection.is_ours, writes, lasts]
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
        return if_longer_than(self._commit_patience if writes else None, partial(self._cancel, connection))

    def _cancel(self, connection: Session) -> None:
        """Not by libpq's request to cancel: psycopg2 holds the GIL meanwhile, for ever where the server is frozen."""
        with contextlib.suppress(psycopg2.Error), self._asking() as asking:
            cancel(asking, connection)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[psycopg2.extensions.connection]:
        """A connection beside the pool's, to whoever is the primary now. It waits for no answer for long."""
        asking = connect(
            self._url,
            application_name=self._application_name,
            connect_timeout=self._connect_timeout,
            factory=Session,
        )
        assert isinstance(asking, Session)
        try:
            asking.autocommit = True
            with if_longer_than(self._connect_timeout, asking.hang_up):
                yield asking
        finally:
            asking.close()

    def look(self) -> None:
        """Close what nobody needs, hang up where nobody is at it. Done once a second by :mod:`ledgerq_shared.upkeep`."""
        assert self._looks is not None
        with self._lock:
            free, busy = list(self._free), list(self._busy)
        looks = self._looks.count([*free, *busy])
        if self._spare is not None and free:
            self._close_unused(looks, self._spare())
        late = {connection: looks[connection] - 1 for connection in busy}
        silent = [one for one, seconds in late.items() if seconds and seconds % self._answers_within == 0]
        if silent:
            self._hang_up(silent)

    def _close_unused(self, looks: dict[Session, int], spare: int) -> None:
        with self._lock:
            # Who needs one takes that which was used last.
            beyond = self._free[: max(len(self._free) - spare, 0)]
            unused = [connection for connection in beyond if looks.get(connection, 0) > _UNUSED_LOOKS]
            self._free = [connection for connection in self._free if connection not in unused]
        for connection in unused:
            connection.close()

    def _hang_up(self, silent: list[Session]) -> None:
        found: set[Session] = set()
        if self._waits_for_work:
            try:
                with self._asking() as asking:
                    found = at_work(asking, silent)
            except psycopg2.Error:
                return  # nobody answers: there is nobody to turn to
        for connection in silent:
            if connection not in found:
                connection.hang_up()

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
        unavailable = kind(_reason(error), is_busy=fault is Fault.REPEAT)
        if refuses_writes(error) and self._tells_of_outages:
            outages.POSTGRESQL_WRITES.failed(unavailable.detail)
        # A connection that was lost is no outage: whether there is one, the next connection tells.
        unavailable.is_told = refuses_writes(error) or outages.POSTGRESQL.is_on
        if fault is Fault.REPEAT:
            return unavailable
        if connection.has_lost_statements(error):
            # Something passes our sessions on to others and does not say so: from now on do without.
            self._keeps_statements = False
        connection.close()
        return unavailable

    def _connection(self) -> Session:
        with self._lock:
            while self._free:
                connection = self._free.pop()
                if connection.is_usable:
                    connection.uses += 1
                    self._busy.add(connection)
                    return connection
        try:
            made = connect(
                self._url,
                application_name=self._application_name,
                connect_timeout=self._connect_timeout,
                # A host that vanished is noticed in seconds, not after the kernel's two hours.
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=round(self._unanswered_after * 1000),
                client_encoding="UTF8",
                factory=Session,
                is_replica=self._is_replica,
            )
            assert isinstance(made, Session)
            connection = made
            if self._checks_socket:
                connection.remember_socket()
            connection.autocommit = True  # BEGIN and COMMIT are ours
            self._watch(connection)
            if self._keeps_statements:
                try:
                    connection.make_ours_if_possible(self._once)
                except BaseException:
                    self._busy.discard(connection)
                    raise
        except psycopg2.Error as error:
            unavailable = LedgerUnavailable(_reason(error))
            if self._tells_of_outages:
                outages.POSTGRESQL.failed(unavailable.detail)
                unavailable.is_told = True
            raise unavailable from error
        if outages.POSTGRESQL.is_on and not self._is_replica:
            outages.POSTGRESQL.worked()
        return connection

    def _watch(self, connection: Session) -> None:
        """A new connection is in use."""
        with self._lock:
            self._busy.add(connection)
            is_first = self._looks is None
            self._looks = self._looks or Looks()
        if is_first:
            look_after(self)

    def _give_back(self, connection: Session) -> None:
        self._busy.discard(connection)
        connection.uses += 1
        if connection.closed:
            # After a restart of PostgreSQL every pooled connection is dead: do not make each caller find one out.
            self.close()
            return
        with self._lock:
            self._free.append(connection)


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


def _reason(error: psycopg2.Error) -> str:
    what = describe(error)
    if error.pgcode is None:
        return f"PostgreSQL cannot be reached: {what}"
    return f"PostgreSQL does not take this now: {what} (SQLSTATE {error.pgcode})"


def _forget_notices(connection: psycopg2.extensions.connection) -> None:
    if connection.notices:
        connection.notices.clear()


@contextlib.contextmanager
def if_longer_than(seconds: float | None, action: Callable[[], object]) -> Iterator[None]:
    """Do ``action``, in another thread, if this takes longer than so many seconds; null: it may."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _roll_back(connection: Session) -> None:
    if not connection.is_usable:
        return
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

    #: What goes before the next statement; empty once it was sent.
    first = ""

    def execute(self, query: Any, params: Any = None) -> None:
        first, self.first = self.first, ""
        super().execute(first + query, params)


class _Alone(psycopg2.extensions.cursor):
    """Each statement is a transaction by itself."""

    #: What goes before each statement.
    first = ""

    def execute(self, query: Any, params: Any = None) -> None:
        super().execute(self.first + query, params)


class _LoggingTransaction(_Transaction, _LoggingCursor):
    pass


class _LoggingAlone(_Alone, _LoggingCursor):
    pass
