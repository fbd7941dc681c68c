"""PostgreSQL: whether it answers, how large it is, what grows, and what harms it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from prometheus_client.core import Metric as Family

from ledgerq_monitor.collectors.collector import Ledger
from ledgerq_shared.postgres.durability import Durability, replication_figures
from ledgerq_shared.postgres.figures import Figures
from ledgerq_shared.process.metrics import Metric
from ledgerq_shared.statements.read_metrics import SERVER_FIGURES, TABLE_FIGURES, read_server, read_tables

_TABLE = ("table",)
_SIZE = Metric("ledgerq_postgresql_database_bytes", "gauge", "Size of the ledger's database on disk.")
_CONNECTIONS = Metric("ledgerq_postgresql_connections", "gauge", "Connections to the ledger's database.")
_MOST_CONNECTIONS = Metric("ledgerq_postgresql_max_connections", "gauge", "Connections that the server allows in all.")
_OLDEST = Metric(
    "ledgerq_postgresql_oldest_transaction_seconds",
    "gauge",
    "Age of the oldest open transaction; without pg_read_all_stats of the monitor's own role only.",
)
_FROZEN = Metric(
    "ledgerq_postgresql_frozen_transaction_age",
    "gauge",
    "Transactions since the oldest row that is not frozen; the server stops at 2 billion.",
)
_WAL = Metric("ledgerq_postgresql_wal_bytes_total", "counter", "Write-ahead log written since the server was made.")
_WAL_KEPT = Metric(
    "ledgerq_postgresql_wal_retained_bytes", "gauge", "Write-ahead log that is kept for the slowest replication slot."
)
_WENT_BACK = Metric(
    "ledgerq_ledger_went_back",
    "gauge",
    "How often within a day the ledger was found to lack what had been accepted: after a failover, or a restore.",
)
_BUDGET = Metric(
    "ledgerq_postgresql_disk_budget_bytes", "gauge", "How large the database may become, as the monitor was told."
)
_OF_SERVER = (_SIZE, _CONNECTIONS, _MOST_CONNECTIONS, _OLDEST, _FROZEN, _WAL, _WAL_KEPT, _WENT_BACK)
_TABLE_SIZE = Metric("ledgerq_postgresql_table_bytes", "gauge", "Size of a table with its indexes.", _TABLE)
_LIVE = Metric("ledgerq_postgresql_table_rows", "gauge", "Rows of a table, as PostgreSQL estimates.", _TABLE)
_DEAD = Metric(
    "ledgerq_postgresql_table_dead_rows", "gauge", "Rows of a table that wait for vacuum, as estimated.", _TABLE
)

_STANDBY = ("standby",)
_CONFIRMING = Metric(
    "ledgerq_postgresql_synchronous_standbys",
    "gauge",
    "Standbys that are sure to have each commit on their disks when it is confirmed.",
)
_REQUIRED = Metric(
    "ledgerq_postgresql_synchronous_standbys_required", "gauge", "As many are demanded (`LEDGERQ_REQUIRE_SYNC`)."
)
_FOLLOWING = Metric("ledgerq_postgresql_standbys", "gauge", "Standbys that follow the primary.")
_LAG_SECONDS = Metric(
    "ledgerq_postgresql_replay_lag_seconds",
    "gauge",
    "How old what a standby shows is; 0 while nothing is written.",
    _STANDBY,
)
_LAG_BYTES = Metric(
    "ledgerq_postgresql_replay_lag_bytes", "gauge", "Write-ahead log that a standby does not show yet.", _STANDBY
)
_TIMELINE = Metric("ledgerq_postgresql_timeline", "gauge", "The primary's timeline: one more after each failover.")


class Server:
    """The server and the database as a whole.

    Args:
        disk_budget: bytes.
    """

    name = "postgresql"
    metrics: ClassVar[tuple[Metric, ...]] = (*_OF_SERVER, _BUDGET)
    patience = 2

    def __init__(self, ledger: Ledger, *, disk_budget: int) -> None:
        self._ledger = ledger
        self._disk_budget = disk_budget
        self._figures = Figures(read_server, SERVER_FIGURES)

    def collect(self) -> Iterable[Family]:
        """Read one row. A standby writes no log of its own; some figures may be refused."""
        [server] = self._ledger.figures(self._figures)
        seen = {
            _SIZE: server.database_bytes,
            _CONNECTIONS: server.connections,
            _MOST_CONNECTIONS: server.max_connections,
            _OLDEST: server.oldest_transaction_seconds,
            _FROZEN: server.frozen_age,
            _WAL: server.wal_bytes,
            _WAL_KEPT: server.wal_retained_bytes,
            _WENT_BACK: server.went_back,
        }
        for metric, value in seen.items():
            if value is not None:
                yield metric.family({(): value})
        yield _BUDGET.family({(): self._disk_budget})


class Tables:
    """The ledger's tables."""

    name = "tables"
    metrics: ClassVar[tuple[Metric, ...]] = (_TABLE_SIZE, _LIVE, _DEAD)
    patience = 6

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._figures = Figures(read_tables, TABLE_FIGURES)

    def collect(self) -> Iterable[Family]:
        """Read one row per table; the schema has a fixed number of them."""
        rows = self._ledger.figures(self._figures)
        sizes = {(row.table,): row.table_bytes for row in rows if row.table_bytes is not None}
        if len(sizes) == len(rows):
            yield _TABLE_SIZE.family(sizes)
        yield _LIVE.family({(row.table,): row.live_rows for row in rows})
        yield _DEAD.family({(row.table,): row.dead_rows for row in rows})


class Replication:
    """How far the server's standbys are.

    Args:
        required: how many must have each commit, as the operator demands (`LEDGERQ_REQUIRE_SYNC`).
    """

    name = "replication"
    metrics: ClassVar[tuple[Metric, ...]] = (_CONFIRMING, _REQUIRED, _FOLLOWING, _LAG_SECONDS, _LAG_BYTES, _TIMELINE)
    patience = 1

    def __init__(self, ledger: Ledger, *, required: int) -> None:
        self._ledger = ledger
        self._required = required
        self._figures = replication_figures()

    def collect(self) -> Iterable[Family]:
        """Read one row per standby; of standbys with the same name, the last one counts. Figures that this role may not
        see are left out.
        """
        found = Durability.of(self._ledger.figures(self._figures))
        yield _CONFIRMING.family({(): found.confirming})
        yield _REQUIRED.family({(): self._required})
        if found.timeline is not None:
            yield _TIMELINE.family({(): found.timeline})
        if found.standbys is not None:
            yield _FOLLOWING.family({(): sum(one.is_streaming for one in found.standbys)})
            yield _LAG_SECONDS.family({(one.name,): one.lag_seconds for one in found.standbys})
            told = {(one.name,): one.lag_bytes for one in found.standbys if one.lag_bytes is not None}
            yield _LAG_BYTES.family(told)
