"""Figures that PostgreSQL's own functions and views give. What is PostgreSQL in name only (Aurora) may refuse some, and so
may an operator who has taken rights away: that costs these figures, and no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

import psycopg2
import structlog

from ledgerq_shared.database import Cursor, execute
from ledgerq_shared.sql import Statement
from ledgerq_shared.sqlstates import is_not_to_be_had

log = structlog.get_logger()

#: What was refused is asked for again after so many seconds: rights may have been granted, another server may answer.
_AGAIN_AFTER = 600.0


class Figures:
    """Reads one statement of several figures.

    Args:
        read: the statement without some figures, by their names; in their places are nulls.
        names: of the figures that may be refused.
    """

    def __init__(self, read: Callable[[Collection[str]], Statement], names: Collection[str]) -> None:
        self._read = read
        self._names = frozenset(names)
        #: Why not, of those that were refused when they were asked for last.
        self.refused: dict[str, str] = {}
        self._found_at = 0.0
        #: Of these it was said.
        self._told: set[str] = set()

    def fetch(self, cursor: Cursor) -> list[tuple[Any, ...]]:
        """The rows, within a transaction. Says once of each figure that it is refused.

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
        """Why PostgreSQL does not give this figure; null: it does."""
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


def _try(cursor: Cursor, statement: Statement) -> list[tuple[Any, ...]]:
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
