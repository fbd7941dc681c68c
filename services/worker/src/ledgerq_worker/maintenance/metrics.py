"""What a maintenance process counts about itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from ledgerq_shared import outage_metrics
from ledgerq_shared.process.metrics import SHORT_SECONDS, Metric

_DUTY = ("duty",)
_LEADS = Metric("ledgerq_maintenance_leads", "gauge", "Whether this maintenance process leads (1) or stands by (0).")
_SECONDS = Metric(
    "ledgerq_maintenance_duty_seconds",
    "histogram",
    "Time of one round of a duty; the sweep's holds that of the duties that it begins.",
    _DUTY,
    SHORT_SECONDS,
)
_DONE = Metric("ledgerq_maintenance_done_total", "counter", "What a duty has done: tasks, entries, keys.", _DUTY)
_FAILURES = Metric("ledgerq_maintenance_failures_total", "counter", "Rounds of a duty that failed.", _DUTY)
_APART = Metric(
    "ledgerq_maintenance_set_apart",
    "gauge",
    "Tasks with which a duty fails by themselves, so that they are set apart and tried again; the log names them.",
    _DUTY,
)

METRICS = (_LEADS, _SECONDS, _DONE, _FAILURES, _APART, *outage_metrics.METRICS)

#: The registry from which the process answers scrapes.
registry = CollectorRegistry()
for _own in (ProcessCollector, PlatformCollector, GCCollector):
    _own(registry=registry)
leads = _LEADS.instrument(registry)
_seconds, _done, _failures, _apart = (metric.instrument(registry) for metric in (_SECONDS, _DONE, _FAILURES, _APART))
registry.register(outage_metrics.collector())


class DutyMetrics:
    """The metrics of one duty."""

    def __init__(self, duty: str) -> None:
        self._seconds, self._done, self._failures = (metric.labels(duty) for metric in (_seconds, _done, _failures))
        self._apart = _apart.labels(duty)

    def went_round(self, seconds: float, done: int) -> None:
        """Count a round that has ended."""
        self._seconds.observe(seconds)
        self._done.inc(done)

    def failed(self) -> None:
        """Count a round that failed."""
        self._failures.inc()

    def set_apart(self, tasks: int) -> None:
        """Set how many tasks are set apart now."""
        self._apart.set(tasks)
