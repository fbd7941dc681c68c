"""The outages that a process knows of, as metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prometheus_client.core import Metric as Family

from ledgerq_shared import outages
from ledgerq_shared.process.metrics import FromFunction, Metric

_LABELS = ("store", "what")
IS_ON = Metric(
    "ledgerq_store_outage",
    "gauge",
    "Whether a store fails this process (1) or not (0): it does not answer (`answers`), or takes no writes (`writes`), "
    "for a full disk, say.",
    _LABELS,
)
_FAILURES = Metric("ledgerq_store_failures_total", "counter", "How often a store has failed this process so.", _LABELS)
METRICS = (IS_ON, _FAILURES)
_PLACES = [(outage.store.lower(), outage.what) for outage in outages.ALL]


def collector() -> FromFunction:
    """For prometheus_client's registry."""
    return FromFunction(_families)


def is_on(numbers: Collection[int]) -> Family:
    """``ledgerq_store_outage``, if these outages are on (:func:`ledgerq_shared.outages.numbers`)."""
    return IS_ON.family({place: int(number in numbers) for number, place in enumerate(_PLACES)})


def _families() -> Iterable[Family]:
    yield is_on(outages.numbers())
    yield _FAILURES.family({place: outage.failures for place, outage in zip(_PLACES, outages.ALL, strict=True)})
