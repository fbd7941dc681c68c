"""What one flush has written, and the trace by which it is recognised again if its COMMIT got no answer.

A transaction is there completely or not at all, so one effect stands for all of it. It has to be an effect that nobody
else can have left: an event of this attempt by this worker, a line at its place in the history, a claim of this slot.
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
    """What one transaction wrote, as known before its commit."""

    kept: list[Leg] = field(default_factory=list)
    #: By task id: the leg, and what it was about to write.
    refused: dict[str, tuple[Leg, str]] = field(default_factory=dict)
    #: By task id: the last line that was written for it, and the line's place in the history.
    logged: dict[str, tuple[int, str]] = field(default_factory=dict)
    outbox: list[int] = field(default_factory=list)
    claimed: list[ClaimedTask] = field(default_factory=list)
    #: When it began, by the performance counter, in seconds.
    begun_at: float = field(default_factory=time.perf_counter)

    def witness(self, pending: Pending, *, worker: str, worker_id: str, slot: int) -> Statement[tuple[bool]] | None:
        """A statement that asks whether ``pending`` and this were committed. None: there was nothing to write.

        Args:
            worker: the node's name.
            worker_id, slot: the node and the slot that claimed tasks.
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
    """The number of the attempt that has ended; for a leg that never began, that of the attempt before."""
    return leg.attempt if leg.begun_at or isinstance(leg.end, GoesOn) else leg.task.attempt
