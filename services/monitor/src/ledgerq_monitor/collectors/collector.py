"""What a collector is, and the two things that several of them need: a look at the ledger, and a bound on names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

from prometheus_client.core import Metric as Family

from ledgerq_shared.database import Cursor, Database, execute
from ledgerq_shared.figures import Figures
from ledgerq_shared.metrics import Metric
from ledgerq_shared.replica import Replica, Seen, open_replica
from ledgerq_shared.settings import StoreSettings
from ledgerq_shared.sql import Statement

T = TypeVar("T")

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
    """Reads the ledger, each statement within ``timeout`` seconds. SELECT is the only privilege it needs.

    Args:
        replica: asked first by :meth:`look`; null: there is none.
    """

    def __init__(self, database: Database, *, timeout: float, replica: Replica | None = None) -> None:
        self._database = database
        self._timeout = timeout
        self._replica = replica

    def fetch(self, *statements: Statement) -> list[list[tuple[Any, ...]]]:
        """The rows of each statement, all in one transaction."""
        return self._ask(partial(_rows, statements))

    def figures(self, figures: Figures) -> list[tuple[Any, ...]]:
        """The rows of what PostgreSQL may refuse in part."""
        return self._ask(figures.fetch)

    def fetch_old(self, *statements: Statement) -> list[list[tuple[Any, ...]]]:
        """As :meth:`fetch`, for what may be a little old: by the replica, where there is one that does."""
        return self.look(partial(_rows, statements)).value

    def look(self, work: Callable[[Cursor], T], *, not_before: datetime | None = None) -> Seen[T]:
        """What ``work`` returns, which only reads and may see what is a little old.

        Args:
            not_before: what is older than this is too old.
        """
        if self._replica is None:
            return Seen(self._ask(work), None)
        return self._replica.look(work, lambda: self._ask(work), timeout=self._timeout, not_before=not_before)

    def now(self) -> datetime:
        """No look so far has seen anything later than this."""
        return datetime.now(UTC) if self._replica is None else self._replica.now()

    def _ask(self, work: Callable[[Cursor], T]) -> T:
        milliseconds = math.ceil(self._timeout * 1000)
        with self._database.transaction(timeout=self._timeout, writes=False) as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s; SET TRANSACTION READ ONLY", (milliseconds,))
            return work(cursor)


def open_ledger(
    stores: StoreSettings, *, application_name: str, size: int, timeout: float, connect_timeout: int = 5
) -> Ledger:
    """The ledger, and its replica where one is configured; nothing is connected yet.

    Args:
        size: most looks at the same time.
        timeout: seconds that a statement may take.
    """
    database = Database(
        stores.database_url, application_name=application_name, size=size, connect_timeout=connect_timeout
    )
    replica = open_replica(stores, database, application_name=application_name, size=size, statement_timeout=timeout)
    return Ledger(database, timeout=timeout, replica=replica)


def _rows(statements: Sequence[Statement], cursor: Cursor) -> list[list[tuple[Any, ...]]]:
    return [execute(cursor, statement) for statement in statements]


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
