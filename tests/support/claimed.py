"""A claimed task without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.statements.claim import ClaimedTask

_USUAL: dict[str, Any] = {
    "claim_no": 1,
    "celery_id": None,
    "queue": "default",
    "priority": 5,
    "state": "PENDING",
    "attempt": 0,
    "retries": 0,
    "max_retries": None,
    "time_limit": None,
    "soft_time_limit": None,
    "args": None,
    "parameters": "{}",
    "celery": None,
    "expires_at": None,
    "is_expired": False,
    "is_cancelled": False,
    "on_worker_lost": None,
    "is_alone": False,
    "ready_at": datetime(2026, 1, 1, tzinfo=UTC),
}


def claimed_task(task_type: str, **fields: Any) -> ClaimedTask:
    """As the claim returns it; ``fields`` replace the usual ones."""
    return ClaimedTask(**{"id": str(new_task_id()), **_USUAL, **fields, "task_type": task_type})
