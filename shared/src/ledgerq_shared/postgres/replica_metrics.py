"""How often a process has read from the replica, and from the primary in the replica's place, as metrics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from prometheus_client.core import Metric as Family

from ledgerq_shared.process.metrics import FromFunction, Metric

_READS = Metric(
    "ledgerq_replica_reads_total",
    "counter",
    "Reads of this process that the replica has answered (`DATABASE_REPLICA_URL`).",
)
_FALLBACKS = Metric(
    "ledgerq_replica_fallbacks_total",
    "counter",
    "Reads that the primary has answered in the replica's place: it is `away`, `too_old` (`LEDGERQ_REPLICA_MAX_LAG`), "
    "`not_a_standby` (any more), of an `other_ledger`, has cancelled the read for what it had to replay (`conflict`), or "
    "its age is `unknown`.",
    ("reason",),
)
METRICS = (_READS, _FALLBACKS)


class Reason(StrEnum):
    """Why the replica was not used."""

    AWAY = "away"
    TOO_OLD = "too_old"
    NOT_A_STANDBY = "not_a_standby"
    OTHER_LEDGER = "other_ledger"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


class Counts:
    """The counts of this process, which has one replica or none."""

    def __init__(self) -> None:
        #: Whether a replica is configured.
        self.is_shown = False
        self.reads = 0
        self.fallbacks: Counter[Reason] = Counter(dict.fromkeys(Reason, 0))
        self._lock = threading.Lock()

    def read(self) -> None:
        """Count a read that the replica has answered."""
        with self._lock:
            self.reads += 1

    def fell_back(self, reason: Reason) -> None:
        """Count a read that the primary has answered instead."""
        with self._lock:
            self.fallbacks[reason] += 1

    def families(self) -> Iterable[Family]:
        """The metrics; none if no replica is configured."""
        if self.is_shown:
            yield _READS.family({(): self.reads})
            yield _FALLBACKS.family({(reason.value,): count for reason, count in self.fallbacks.items()})


#: Those of this process.
counts = Counts()


def collector() -> FromFunction:
    """For prometheus_client's registry."""
    return FromFunction(counts.families)
