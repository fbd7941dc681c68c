"""What a collector is, and the two things that several of them need: a look at the ledger, and a bound on names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import ClassVar, Protocol, TypeVar

from prometheus_client.core import Metric as Family

from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.postgres.figures import Figures
from ledgerq_shared.postgres.replica import Replica, Seen, look, open_replica
from ledgerq_shared.process.metrics import Metric
from ledgerq_shared.settings import StoreSettings
from ledgerq_shared.sql import Row, Statement

T = TypeVar("T")

#: The name under which names beyond the bound are counted.
OTHER = "other"


class Collector(Protocol):
    """Reads one subject."""

    #: The label in the exporter's metrics about itself.
    name: str
    metrics: ClassVar[tuple[Metric, ...]]
    #: How many times longer than usual its figures are kept: figures that grow slowly or cost more are read less often.
    patience: int

    def collect(self) -> Iterable[Family]:
        """Read the figures; raises any error."""


class Ledger:
    """Reads the ledger, each statement within ``timeout`` seconds. SELECT is the only privilege it needs.

    Args:
        replica: asked first by :meth:`look`; None: there is none.
    """

    def __init__(self, database: Database, *, timeout: float, replica: Replica | None = None) -> None:
        self._database = database
        self._timeout = timeout
        self._replica = replica

    def fetch(self, statement: Statement[Row]) -> list[Row]:
        """The rows of a statement."""
        return self._ask(lambda cursor: execute(cursor, statement))

    def figures(self, figures: Figures[Row]) -> list[Row]:
        """The rows of a statement of which PostgreSQL may refuse a part."""
        return self._ask(figures.fetch)

    def fetch_old(self, statement: Statement[Row]) -> list[Row]:
        """As :meth:`fetch`, for rows that may be a little old: the replica answers if it can be used."""
        return self.look(lambda cursor: execute(cursor, statement)).value

    def look(self, work: Callable[[Cursor], T], *, not_before: datetime | None = None) -> Seen[T]:
        """What ``work`` returns, which only reads and may see data that are a little old.

        Args:
            not_before: data older than this are too old.
        """
        return look(self._replica, work, self._ask, timeout=self._timeout, not_before=not_before)

    def now(self) -> datetime:
        """The ledger's time now: no look so far has seen anything later."""
        return datetime.now(UTC) if self._replica is None else self._replica.now()

    def _ask(self, work: Callable[[Cursor], T]) -> T:
        milliseconds = math.ceil(self._timeout * 1000)
        with self._database.transaction(timeout=self._timeout, writes=False) as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s; SET TRANSACTION READ ONLY", (milliseconds,))
            return work(cursor)


def open_ledger(
    stores: StoreSettings, *, application_name: str, size: int, timeout: float, connect_timeout: int = 5
) -> Ledger:
    """The ledger, and its replica if one is configured; nothing is connected yet.

    Args:
        size: how many looks may run at the same time.
        timeout: seconds that a statement may take.
    """
    database = Database(
        stores.database_url, application_name=application_name, size=size, connect_timeout=connect_timeout
    )
    replica = open_replica(stores, database, application_name=application_name, size=size, statement_timeout=timeout)
    return Ledger(database, timeout=timeout, replica=replica)


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
