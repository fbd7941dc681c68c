"""Examples of actions on a task, for the documentation."""

from __future__ import annotations

from typing import Any

_ID = "01985c3e-7a52-7d31-9b64-0c4f8f0e2a11"
_NEW_ID = "01985c40-11c4-7a90-8a6e-6a0a7d3f5b02"

CANCEL: dict[str, Any] = {"terminate": False, "reason": "The document was withdrawn."}
CANCELLED: dict[str, Any] = {"task_id": _ID, "status": "REVOKED", "cancel_requested": True, "terminate": False}

RETRY: dict[str, Any] = {"reason": "The disk has room again."}
RETRIED: dict[str, Any] = {"task_id": _ID, "status": "PENDING"}

RERUN: dict[str, Any] = {"task_parameters": {"options": {"format": "png"}}, "priority": 9}
RERUN_ANSWER: dict[str, Any] = {"task_id": _NEW_ID, "status": "PENDING", "rerun_of": _ID}

EXPLANATION: dict[str, Any] = {
    "task_id": _ID,
    "status": "PENDING",
    "findings": [
        {"code": "queue_paused", "text": "Queue documents is paused."},
        {"code": "ahead", "text": "12 tasks of queue documents are before it.", "count": 12},
    ],
}
