"""What a collector is, and the two things that several of them need: a look at the ledger, and a bound on names."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Protocol

from prometheus_client.core import Metric as Family

from ledgerq_shared.database import Database, execute, type_cursor
from ledgerq_shared.figures import Figures
from ledgerq_shared.metrics import Metric
from ledgerq_shared.sql import Statement

#: What names beyond the bound are counted as.
OTHER = "other"


class Collector(Protocol):
    """Reads one subject."""

    #: Stands in the exporter's metrics about itself.
    name: str
    metrics: ClassVar[tuple[Metric, ...]]
    #: How many times longer than usual its figures are kept: what grows slowly or costs more is read less often.
    patience: int

    def collect(self) -> Iterable[Family]:
        """Read; raises whatever went wrong."""


class Ledger:
    """Reads the ledger, each statement within ``timeout`` seconds. SELECT is the only privilege it needs."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    def fetch(self, *statements: Statement) -> list[list[tuple[Any, ...]]]:
        """The rows of each statement, all in one transaction."""
        with self._transaction() as cursor:
            return [execute(cursor, statement) for statement in statements]

    def figures(self, figures: Figures) -> list[tuple[Any, ...]]:
        """The rows of what PostgreSQL may refuse in part."""
        with self._transaction() as cursor:
            return figures.fetch(cursor)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[type_cursor]:
        milliseconds = math.ceil(self._timeout * 1000)
        with self._database.transaction(timeout=self._timeout, writes=False) as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s; SET TRANSACTION READ ONLY", (milliseconds,))
            yield cursor


class Names:
    """Keeps the number of series bounded: the first ``most`` names are kept for good, later ones become ``other``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """The name itself, or ``other``."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name
