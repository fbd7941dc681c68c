"""The outages that a process knows of, as metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric as Family

from ledgerq_shared.metrics import FromFunction, Metric
from ledgerq_shared.outages import ALL

_LABELS = ("store", "what")
_IS_ON = Metric(
    "ledgerq_store_outage",
    "gauge",
    "Whether a store fails this process (1) or not (0): it does not answer (`answers`), or takes no writes (`writes`), "
    "for a full disk, say.",
    _LABELS,
)
_FAILURES = Metric("ledgerq_store_failures_total", "counter", "How often a store has failed this process so.", _LABELS)
METRICS = (_IS_ON, _FAILURES)


def collector() -> FromFunction:
    """For prometheus_client's registry."""
    return FromFunction(_families)


def _families() -> Iterable[Family]:
    places = {(outage.store.lower(), outage.what): outage for outage in ALL}
    yield _IS_ON.family({place: int(outage.is_on) for place, outage in places.items()})
    yield _FAILURES.family({place: outage.failures for place, outage in places.items()})
