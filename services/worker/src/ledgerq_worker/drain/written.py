"""What one flush writes, and the one trace of it by which it is known again when nobody saw its COMMIT answered.

A transaction is there whole or not at all, so one effect stands for all. It is one that nobody else can have left: an event
of this attempt by this worker, a line at its place, a claim of this slot.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ledgerq_shared.events import EventKind
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.transactions import has_claim, has_event, has_log_line, has_progress, has_refusal
from ledgerq_shared.states import State
from ledgerq_worker.drain.pending import Pending
from ledgerq_worker.slot.ends import GoesOn
from ledgerq_worker.slot.legs import Leg

_KINDS = {
    State.SUCCESS: EventKind.SUCCEEDED,
    State.FAILURE: EventKind.FAILED,
    State.REVOKED: EventKind.REVOKED,
    State.RETRY: EventKind.RETRIED,
}


@dataclass(slots=True)
class Written:
    """What one transaction wrote, known before its commit."""

    kept: list[Leg] = field(default_factory=list)
    #: By task id: the leg and what it was about to write.
    refused: dict[str, tuple[Leg, str]] = field(default_factory=dict)
    #: By task id: the last line that was written of it, and its place in the history.
    logged: dict[str, tuple[int, str]] = field(default_factory=dict)
    outbox: list[int] = field(default_factory=list)
    claimed: list[ClaimedTask] = field(default_factory=list)
    #: By the performance counter, in seconds.
    begun_at: float = field(default_factory=time.perf_counter)

    def witness(self, pending: Pending, *, worker: str, worker_id: str, slot: int) -> Statement[tuple[bool]] | None:
        """Asks whether ``pending`` and this were committed. None: nothing was to be written.

        Args:
            worker: the node's name.
            worker_id, slot: for whom tasks were claimed.
        """
        actor = f"worker:{worker}"
        for leg in self.kept:
            return has_event(leg.task.id, kind=_kind(leg), attempt=ended_attempt(leg), actor=actor)
        for leg in pending.begun.values():
            if leg.task.id not in self.refused and leg.recorded is not State.STARTED:
                return has_event(leg.task.id, kind=EventKind.STARTED, attempt=leg.attempt, actor=actor)
        for task_id, (seq, line) in self.logged.items():
            return has_log_line(task_id, seq=seq, data=line)
        for leg, percent, status, _ in pending.progress.values():
            if leg.task.id not in self.refused:
                return has_progress(leg.task.id, percent=percent, status=status)
        for task in self.claimed:
            return has_claim(task.claim_no, worker_id=worker_id, slot=slot)
        for leg, _ in self.refused.values():
            return has_refusal(leg.task.id, claim_no=leg.task.claim_no, actor=actor)
        return None


def _kind(leg: Leg) -> EventKind:
    assert leg.end is not None
    return _KINDS.get(leg.end.state, EventKind.REPLACED)


def ended_attempt(leg: Leg) -> int:
    """The number of the attempt that has ended; of a leg that never began, that of the one before."""
    return leg.attempt if leg.begun_at or isinstance(leg.end, GoesOn) else leg.task.attempt
