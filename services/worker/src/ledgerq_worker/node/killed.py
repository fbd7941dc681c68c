"""What is written when a task is ended with its process: before that is killed."""

from __future__ import annotations

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.record import end_from_outside
from ledgerq_shared.states import State
from ledgerq_shared.task_errors import TaskError
from ledgerq_worker.slot.encoding import to_json
from ledgerq_worker.slot.table import SlotRecord


def record_hard_limit(record: SlotRecord, limit: float, *, actor: str) -> Statement:
    """FAILURE `TimeLimitExceeded` for the task in this slot, guarded by its claim like every write."""
    assert record.task_id is not None
    error = {
        "type": TaskError.TIME_LIMIT_EXCEEDED.value,
        "message": f"The task ran longer than its hard time limit of {limit:g} s and was killed.",
        "traceback": None,
        "retryable": True,
    }
    return end_from_outside(
        task_id=record.task_id,
        claim_no=record.claim_no,
        state=State.FAILURE,
        error=to_json(error),
        data=to_json({"limit": "hard", "seconds": limit}),
        actor=actor,
    )


def record_termination(record: SlotRecord, *, actor: str) -> Statement:
    """REVOKED for the task in this slot, guarded by its claim like every write."""
    assert record.task_id is not None
    return end_from_outside(
        task_id=record.task_id,
        claim_no=record.claim_no,
        state=State.REVOKED,
        error=None,
        data=to_json({"reason": "cancelled", "terminated": True}),
        actor=actor,
    )
