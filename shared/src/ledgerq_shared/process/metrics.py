"""Metrics: one declaration from which each is documented, exported and tested; and a small server.

Each service declares its metrics as :class:`Metric` in a tuple ``METRICS``; ``docs/reference/metrics.md`` is made from
them. Metrics that are counted while things happen use prometheus_client's own classes (:meth:`Metric.instrument`);
metrics that are read from somewhere else at each scrape are written as a family (:meth:`Metric.family`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from ledgerq_shared.languages import reason
from ledgerq_shared.settings import MetricsSettings, SettingsError

#: Buckets in seconds, from the fastest statement to a task of an hour.
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)


class Tally(NamedTuple):
    """The state of a histogram: how many values fell into each bucket (the last one is beyond all bounds), and their
    sum.
    """

    counts: Sequence[float]
    total: float


class Metric(NamedTuple):
    """One metric. ``name`` of a counter ends in ``_total``; units are Prometheus' base units."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    #: Upper bounds of a histogram's buckets, without infinity.
    buckets: tuple[float, ...] = ()

    def family(self, samples: Mapping[Any, float | Tally]) -> Family:
        """The metric with its samples; the keys of ``samples`` are tuples of label values."""
        if self.kind == "gauge":
            gauge = GaugeMetricFamily(self.name, self.help, labels=self.labels)
            for labels, value in samples.items():
                gauge.add_metric(labels, _number(value))
            return gauge
        if self.kind == "counter":
            counter = CounterMetricFamily(self.name, self.help, labels=self.labels)
            for labels, value in samples.items():
                counter.add_metric(labels, _number(value))
            return counter
        histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in samples.items():
            assert isinstance(value, Tally)
            histogram.add_metric(labels, buckets=self._cumulative(value), sum_value=value.total)
        return histogram

    def instrument(self, registry: CollectorRegistry) -> Any:
        """prometheus_client's object for it, registered."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each metric, which nobody asks for
        if self.kind == "gauge":
            return Gauge(self.name, self.help, self.labels, registry=registry)
        if self.kind == "counter":
            return Counter(self.name, self.help, self.labels, registry=registry)
        return Histogram(self.name, self.help, self.labels, buckets=self.buckets, registry=registry)

    def _cumulative(self, tally: Tally) -> list[tuple[str, float]]:
        sums, so_far = [], 0.0
        for bound, count in zip((*map(_bound, self.buckets), "+Inf"), tally.counts, strict=True):
            so_far += count
            sums.append((bound, so_far))
        return sums


class FromFunction(Collector):
    """Asks a function for the families at each scrape."""

    def __init__(self, function: Callable[[], Iterable[Family]]) -> None:
        self._function = function

    def collect(self) -> Iterable[Family]:
        """The families that the function returns now."""
        return self._function()

    def describe(self) -> Iterable[Family]:
        """Returns nothing, because the function needs objects that do not exist yet when this is registered."""
        return ()


def serve(registry: CollectorRegistry, settings: MetricsSettings) -> None:
    """Answer scrapes at the address that ``settings`` name, if they name one, from a thread of this process; processes
    that it forks have no such thread.

    Raises:
        SettingsError: another process listens there.
    """
    if not settings.port:
        return
    try:
        server, _ = start_http_server(settings.port, addr=settings.host, registry=registry)
    except OSError as error:
        raise SettingsError(
            "cannot serve metrics on {host} port {port}: {reason} (LEDGERQ_METRICS_HOST, LEDGERQ_METRICS_PORT)",
            host=settings.host,
            port=settings.port,
            reason=reason(error),
        ) from None
    # A pool process must not keep the port of a parent that has died.
    os.register_at_fork(after_in_child=server.socket.close)


def _number(value: float | Tally) -> float:
    assert not isinstance(value, Tally)
    return float(value)


def _bound(value: float) -> str:
    return repr(float(value))
