"""What an API process counts about itself, for `GET /metrics`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.types import Scope

from ledgerq_shared import outage_metrics
from ledgerq_shared.postgres import replica_metrics
from ledgerq_shared.process.metrics import BATCH_SIZES, SHORT_SECONDS, Metric

_REQUESTS = Metric(
    "ledgerq_api_request_seconds",
    "histogram",
    "Time until an answer begins, by the route's template; `(waiting)` marks requests that asked to wait for news.",
    ("method", "route", "status"),
    SHORT_SECONDS,
)
_IN_PROGRESS = Metric(
    "ledgerq_api_requests_in_progress", "gauge", "Requests that are being answered, streams among them."
)
_STREAMS = Metric("ledgerq_api_streams", "gauge", "Clients that follow a task over Server-Sent Events.")
_FLUSH_SECONDS = Metric(
    "ledgerq_api_flush_seconds",
    "histogram",
    "Time of one group commit of submits, of one batch submit, or of one shared read of statuses.",
    ("kind",),
    SHORT_SECONDS,
)
_FLUSH_TASKS = Metric("ledgerq_api_flush_tasks", "histogram", "Tasks in such a flush.", ("kind",), BATCH_SIZES)
_REFUSED = Metric(
    "ledgerq_api_refused_total",
    "counter",
    "Requests that were refused before anything looked into them, by the error's code: bad or missing keys, missing "
    "scopes, too many requests, too large or too slow, too many at a time.",
    ("code",),
)

_LOST = Metric(
    "ledgerq_api_lost_tasks_total",
    "counter",
    "Accepted tasks that this process missed in a ledger which had gone back in time; it sends them again.",
)

_OWN = (_REQUESTS, _IN_PROGRESS, _STREAMS, _FLUSH_SECONDS, _FLUSH_TASKS, _REFUSED, _LOST)
METRICS = (*_OWN, *outage_metrics.METRICS, *replica_metrics.METRICS)

#: What `GET /metrics` answers with.
registry = CollectorRegistry()
for _own in (ProcessCollector, PlatformCollector, GCCollector):
    _own(registry=registry)
_requests, _in_progress, streams, _flush_seconds, _flush_tasks, refused, lost = (
    metric.instrument(registry) for metric in _OWN
)
registry.register(outage_metrics.collector())
registry.register(replica_metrics.collector())

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_KINDS = ("submit", "batch", "status")
_flushes = {kind: (_flush_seconds.labels(kind), _flush_tasks.labels(kind)) for kind in _KINDS}


class RequestMetrics:
    """Counts requests. The labels are looked up once for each route, because every request comes through here."""

    def __init__(self) -> None:
        self.in_progress = 0
        self._observe: dict[tuple[str, str, int, bool], Any] = {}
        _in_progress.set_function(lambda: self.in_progress)

    def answered(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        """An answer has begun.

        Args:
            scope: the request as it was routed.
            method: the method that the client sent, which may differ from the routed one.
        """
        route = scope.get("route")
        key = (
            "unmatched" if route is None else getattr(route, "path_format", route.path),
            method,
            status,
            "waits" in scope,
        )
        observe = self._observe.get(key)
        if observe is None:
            observe = self._observe[key] = _requests.labels(*_labels(*key)).observe
        observe(seconds)


@contextmanager
def flush(kind: str, tasks: int) -> Iterator[None]:
    """Measure a flush of ``tasks``; a flush that fails is not counted."""
    seconds, sizes = _flushes[kind]
    begun = time.perf_counter()
    yield
    seconds.observe(time.perf_counter() - begun)
    sizes.observe(tasks)


def _labels(template: str, method: str, status: int, waits: bool) -> tuple[str, str, str]:
    return method if method in _METHODS else "other", f"{template} (waiting)" if waits else template, str(status)
