"""What a session keeps if only we use it: settings, which are set once, and statements, which are planned once.

To plan a claim costs PostgreSQL as much as to claim fifty tasks. Only a session that nobody else uses can keep
anything: behind PgBouncer in transaction mode, another server process may run the next transaction. So the server is
asked; if the answer is no, the same statements run unprepared.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg2
import psycopg2.extensions
import structlog

from ledgerq_shared import clock
from ledgerq_shared.process.descriptors import Identity, identity
from ledgerq_shared.sql import Statement

log = structlog.get_logger()

_PARAMETER = re.compile(r"%(?:%|\((\w+)\)s)")

#: SQLSTATEs that show that a session is not the same as before: a prepared statement does not exist; one of that name
#: exists already.
_LOST = ("26000", "42P05")

#: A plan is made once and is used for every size of every table. The table of claims is empty between two rushes; if a
#: statement were planned then, a sequential scan would seem cheapest, and would be kept for a million rows. So
#: sequential scans are off; all kept statements find their rows by an index. (A scan that is needed nevertheless is
#: estimated as endless, so just-in-time compilation is off, too.)
_KEEP = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off"

#: These settings hold whatever an operator has set: a time limit, because the first statement of a session takes longer
#: than others; a read-only serializable deferrable transaction, which waits for other clients' transactions.
_AS_EVER = "SET LOCAL TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; "


#: Connections whose socket number now belongs to another file. libpq would close that file, so these connections are
#: kept here for ever.
_abandoned: list[psycopg2.extensions.connection] = []


class Session(psycopg2.extensions.connection):
    """A connection that knows which statements it keeps prepared, and which socket it has."""

    #: By the statement's name: how to run it. None: this session can keep none.
    kept: dict[str, str] | None = None
    #: The socket's number, and what it stood for when it was connected; None: this is not checked.
    _socket: tuple[int, Identity | None] | None = None
    _is_abandoned = False
    #: A number that changes with each use, and when the use ends (:mod:`ledgerq_shared.postgres.upkeep`).
    uses = 0

    def remember_socket(self) -> None:
        """To be called when the connection is open."""
        self._socket = (self.fileno(), identity(self.fileno()))

    @property
    def is_usable(self) -> bool:
        """Whether the connection is open, over its own socket. If its number now belongs to another file, the
        connection is never used again.
        """
        if self._is_abandoned or self.closed:
            return False
        if self._socket is None or identity(self._socket[0]) == self._socket[1]:
            return True
        self._is_abandoned = True
        _abandoned.append(self)
        log.warning(
            "database.socket_lost", what="a task closed or replaced the socket of this connection: connecting anew"
        )
        return False

    def hang_up(self) -> None:
        """Shut the socket down, from any thread: a thread that waits for an answer gets an error."""
        if not self.is_usable:
            return
        log.warning("database.hung_up", what="PostgreSQL does not answer over this connection")
        with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(self.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, but not a descriptor that now belongs to another file."""
        if self.is_usable:
            super().close()

    @property
    def is_ours(self) -> bool:
        """Whether the session keeps its settings and statements from one transaction to the next."""
        return self.kept is not None

    def make_ours_if_possible(self, settings: str) -> None:
        """Ask whether the server process that answers is the one to which this connection was made; if so, set the
        session up.

        PgBouncer invents the process number that it tells its clients.

        Args:
            settings: statements, to be run once.
        """
        with self.cursor() as cursor:
            asked_at = time.monotonic()
            cursor.execute(f"{_AS_EVER}SELECT pg_backend_pid(), date_part('epoch', clock_timestamp())")
            [(pid, ledger_time)] = cursor.fetchall()
            clock.note(ledger_time, asked_at)
            if pid == self.info.backend_pid:
                cursor.execute(_AS_EVER + settings + _KEEP)
                self.kept = {}

    def has_lost_statements(self, error: psycopg2.Error) -> bool:
        """Whether ``error`` says that the session has lost what it kept."""
        return bool(self.kept) and error.pgcode in _LOST


class _Prepared(NamedTuple):
    prepare: str
    run: str


def run(cursor: psycopg2.extensions.cursor, statement: Statement[Any]) -> None:
    """Run the statement; it runs prepared if it has a name and the session can keep it."""
    kept = cursor.connection.kept if isinstance(cursor.connection, Session) else None
    if statement.name is None or kept is None:
        cursor.execute(statement.sql, statement.params)
        return
    how = kept.get(statement.name)
    if how is None:
        prepared = _as_prepared(statement.name, statement.sql)
        cursor.execute(prepared.prepare)
        how = kept[statement.name] = prepared.run
    cursor.execute(how, statement.params)


@lru_cache(maxsize=64)
def _as_prepared(name: str, sql: str) -> _Prepared:
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        parameter = found[1]
        return "%" if parameter is None else f"${numbers.setdefault(parameter, len(numbers) + 1)}"

    body = _PARAMETER.sub(number, sql)
    values = ", ".join(f"%({parameter})s" for parameter in numbers)
    return _Prepared(f"PREPARE {name} AS {body}", f"EXECUTE {name} ({values})" if values else f"EXECUTE {name}")
