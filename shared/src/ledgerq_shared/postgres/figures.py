"""Figures that PostgreSQL's own functions and views give. A database that is PostgreSQL in name only (Aurora) may
refuse some, and so may a server on which an operator has taken rights away. Only the refused figures are then missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Generic

import psycopg2
import structlog

from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.postgres.sqlstates import is_not_to_be_had
from ledgerq_shared.sql import Row, Statement

log = structlog.get_logger()

#: A refused figure is asked for again after this many seconds: rights may have been granted, or another server may
#: answer.
_AGAIN_AFTER = 600.0


class Figures(Generic[Row]):
    """Reads one statement of several figures.

    Args:
        read: the statement without some figures, by their names; in their places is None.
        names: of the figures that may be refused.
    """

    def __init__(self, read: Callable[[Collection[str]], Statement[Row]], names: Collection[str]) -> None:
        self._read = read
        self._names = frozenset(names)
        #: The reason, for each figure that was refused when it was asked for last.
        self.refused: dict[str, str] = {}
        self._found_at = 0.0
        #: The figures for which the refusal was logged.
        self._told: set[str] = set()

    def fetch(self, cursor: Cursor) -> list[Row]:
        """The rows, within a transaction. Logs once for each figure that it is refused.

        Raises:
            psycopg2.Error: something else is wrong.
        """
        if self.refused and time.monotonic() - self._found_at > _AGAIN_AFTER:
            self.refused = {}
        try:
            return _try(cursor, self._read(self.refused))
        except psycopg2.Error as error:
            if not is_not_to_be_had(error):
                raise
        for name in sorted(self._names - self.refused.keys()):
            if why := self._refusal(cursor, name):
                self.refused[name] = why
                self._found_at = time.monotonic()
                self._tell(name, why)
        return _try(cursor, self._read(self.refused))

    def _refusal(self, cursor: Cursor, name: str) -> str | None:
        """Why PostgreSQL does not give this figure; None: it does."""
        try:
            _try(cursor, self._read(self._names - {name}))
        except psycopg2.Error as error:
            if not is_not_to_be_had(error):
                raise
            return f"{error.diag.message_primary} (SQLSTATE {error.pgcode})"
        return None

    def _tell(self, name: str, why: str) -> None:
        if name not in self._told:
            self._told.add(name)
            log.warning("postgresql.figure.refused", figure=name, error=why)


def _try(cursor: Cursor, statement: Statement[Row]) -> list[Row]:
    """Run a statement that leaves the transaction as it was if it is refused."""
    cursor.execute("SAVEPOINT figures")
    try:
        rows = execute(cursor, statement)
    except psycopg2.Error as error:
        if is_not_to_be_had(error):
            cursor.execute("ROLLBACK TO SAVEPOINT figures")
        raise
    cursor.execute("RELEASE SAVEPOINT figures")
    return rows
