"""Brings the collectors together: they run side by side, within a deadline and with a cache, and a collector that fails
does not harm the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import structlog
from prometheus_client.core import Metric as Family

from ledgerq_monitor.collectors import (
    Collector,
    Deaths,
    Dispatch,
    EndedWorkers,
    Held,
    Queues,
    Redis,
    Replication,
    Server,
    Stuck,
    Tables,
    Tasks,
    Workers,
)
from ledgerq_monitor.collectors.collector import open_ledger
from ledgerq_monitor.settings import MonitorSettings
from ledgerq_monitor.stores import Answer, ask_postgres, ask_redis
from ledgerq_shared.postgres import replica_metrics
from ledgerq_shared.process.metrics import FromFunction, Metric
from ledgerq_shared.redis_access import note_failure
from ledgerq_shared.settings import StoreSettings

log = structlog.get_logger()

_COLLECTOR = ("collector",)
_UP = Metric(
    "ledgerq_monitor_collector_up", "gauge", "Whether a collector's last look succeeded (1) or failed (0).", _COLLECTOR
)
_TOOK = Metric("ledgerq_monitor_collector_seconds", "gauge", "How long a collector's last look took.", _COLLECTOR)
_AGE = Metric("ledgerq_monitor_collector_age_seconds", "gauge", "Age of a collector's figures.", _COLLECTOR)
_POSTGRESQL_UP = Metric("ledgerq_postgresql_up", "gauge", "Whether PostgreSQL answers a new connection (1) or not (0).")
_REDIS_UP = Metric("ledgerq_redis_up", "gauge", "Whether Redis answers a new connection (1) or not (0).")

#: How many looks run at the same time; each has a connection of its own.
_SIDE_BY_SIDE = 4

#: Everything that the monitor exports, for the reference.
METRICS: tuple[Metric, ...] = (
    *(
        metric
        for kind in (
            Tasks, Stuck, Deaths, Queues, Held, Dispatch, Workers, EndedWorkers, Server, Tables, Replication, Redis
        )
        for metric in kind.metrics
    ),
    _POSTGRESQL_UP, _REDIS_UP, _UP, _TOOK, _AGE,
    *replica_metrics.METRICS,
)  # fmt: skip


class StoreIsUp:
    """Whether a store answers; that it does not answer is a result, too.

    Args:
        ask: asks the store over a new connection.
    """

    patience = 1

    def __init__(self, name: str, metric: Metric, ask: Callable[[], Answer]) -> None:
        self.name = name
        self.metrics = (metric,)
        self._ask = ask

    def collect(self) -> Iterable[Family]:
        """Ask."""
        return [self._family(is_up=self._ask().well)]

    def silence(self) -> Family:
        """The figures if no answer came in time."""
        return self._family(is_up=False)

    def _family(self, *, is_up: bool) -> Family:
        return self.metrics[0].family({(): int(is_up)})


@dataclass
class _Kept:
    """A collector with its latest figures."""

    collector: Collector | StoreIsUp
    families: list[Family] = field(default_factory=list)
    looked_at: float | None = None
    seconds: float = 0.0
    is_well: bool = False
    #: The look that is running; while it hangs, no second one is started.
    look: Future[None] | None = None


class Exporter:
    """Answers scrapes.

    Args:
        cache_seconds: figures younger than this (times the collector's patience) are given again, so frequent scrapes
            cost the stores nothing.
        timeout: seconds after which a scrape goes on without the collectors that have not answered.
    """

    def __init__(self, collectors: Sequence[Collector | StoreIsUp], *, cache_seconds: float, timeout: float) -> None:
        self._kept = [_Kept(collector) for collector in collectors]
        self._cache_seconds = cache_seconds
        self._timeout = timeout
        self._lock = threading.Lock()
        # There are as many threads as collectors, so that a collector that hangs takes no other's thread. Few of them
        # use the database at once.
        self._threads = ThreadPoolExecutor(len(self._kept), thread_name_prefix="collector")

    def as_collector(self) -> FromFunction:
        """For prometheus_client's registry."""
        return FromFunction(self.scrape)

    def scrape(self) -> list[Family]:
        """All families. A collector that fails or does not answer in time has none, and ``up`` says so."""
        with self._lock:
            now = time.monotonic()
            looks = [self._begin(kept) for kept in self._kept if self._is_due(kept, now)]
        wait(looks, self._timeout)
        with self._lock:
            return self._families(time.monotonic())

    def close(self) -> None:
        """Close without waiting for looks."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_due(self, kept: _Kept, now: float) -> bool:
        if kept.look is not None and not kept.look.done():
            return True
        return kept.looked_at is None or now - kept.looked_at >= self._cache_seconds * kept.collector.patience

    def _begin(self, kept: _Kept) -> Future[None]:
        if kept.look is None or kept.look.done():
            kept.look = self._threads.submit(self._look, kept)
        return kept.look

    def _look(self, kept: _Kept) -> None:
        begun = time.monotonic()
        try:
            families, is_well = list(kept.collector.collect()), True
        except Exception as error:
            # Logs only the kind of error: the text of a connection error may quote an address.
            if not (getattr(error, "is_told", False) or note_failure(error)):
                log.warning("monitor.collector.failed", collector=kept.collector.name, error=type(error).__name__)
            families, is_well = [], False
        with self._lock:
            kept.families, kept.is_well = families, is_well
            kept.looked_at = time.monotonic()
            kept.seconds = kept.looked_at - begun

    def _families(self, now: float) -> list[Family]:
        in_time = [kept for kept in self._kept if kept.look is not None and kept.look.done()]
        up = {(kept.collector.name,): int(kept in in_time and kept.is_well) for kept in self._kept}
        took = {(kept.collector.name,): kept.seconds for kept in in_time}
        ages = {
            (kept.collector.name,): now - kept.looked_at
            for kept in in_time
            if kept.is_well and kept.looked_at is not None
        }
        families = [family for kept in in_time for family in kept.families]
        late = [kept.collector for kept in self._kept if kept not in in_time]
        families += [collector.silence() for collector in late if isinstance(collector, StoreIsUp)]
        return [*families, _UP.family(up), _TOOK.family(took), _AGE.family(ages)]


def build_exporter(stores: StoreSettings, settings: MonitorSettings) -> Exporter:
    """All collectors. Nothing is connected before the first scrape."""
    ledger = open_ledger(
        stores,
        application_name="ledgerq-monitor",
        size=_SIDE_BY_SIDE,
        timeout=settings.timeout,
        connect_timeout=max(1, round(settings.timeout)),
    )
    most = settings.most_names
    queues = Queues(ledger, most_names=most)
    return Exporter(
        [
            StoreIsUp("postgresql_up", _POSTGRESQL_UP, lambda: ask_postgres(stores.database_url)),
            StoreIsUp("redis_up", _REDIS_UP, lambda: ask_redis(stores.broker_url)),
            Tasks(ledger, most_names=most),
            queues,
            Workers(ledger),
            Dispatch(ledger),
            Stuck(ledger),
            Held(ledger, most_names=most),
            Deaths(ledger),
            EndedWorkers(ledger),
            Server(ledger, disk_budget=settings.disk_budget),
            Tables(ledger),
            Replication(ledger, required=stores.ledgerq_require_sync),
            Redis(stores.broker_url, lambda: queues.known, timeout=settings.timeout),
        ],
        cache_seconds=settings.cache_seconds,
        timeout=settings.timeout,
    )
