"""How far maintenance is behind, and whether a process leads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from prometheus_client.core import Metric as Family

from ledgerq_monitor.collectors.collector import Ledger
from ledgerq_shared.process.metrics import Metric
from ledgerq_shared.statements.read_metrics import read_dispatch

_DUE = Metric(
    "ledgerq_dispatch_due_tasks", "gauge", "Tasks whose time has come and that maintenance has not made ready."
)
_LAG = Metric("ledgerq_dispatch_lag_seconds", "gauge", "How late the first of these tasks is by now; 0: none is due.")
_OUTBOX = Metric("ledgerq_outbox_entries", "gauge", "Messages that must leave after a commit and have not left yet.")
_OUTBOX_AGE = Metric("ledgerq_outbox_oldest_seconds", "gauge", "Age of the oldest of these messages; 0: there is none.")
_LEADER = Metric(
    "ledgerq_leader_lease_seconds", "gauge", "For how long the maintenance leader's lease still holds; 0: nobody leads."
)


class Dispatch:
    """Maintenance as the ledger shows it."""

    name = "dispatch"
    metrics: ClassVar[tuple[Metric, ...]] = (_DUE, _LAG, _OUTBOX, _OUTBOX_AGE, _LEADER)
    patience = 1

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Family]:
        """Read one row."""
        [seen] = self._ledger.fetch(read_dispatch())
        return [
            _DUE.family({(): seen.due}),
            _LAG.family({(): seen.due_seconds}),
            _OUTBOX.family({(): seen.outbox}),
            _OUTBOX_AGE.family({(): seen.outbox_seconds}),
            _LEADER.family({(): seen.leader_seconds}),
        ]
