"""Examples for the documentation: the users' own."""

from __future__ import annotations

from typing import Any

_ID = "01985c3e-7a52-7d31-9b64-0c4f8f0e2a11"
_TYPE = "clients.celery.example_tasks.process_document"
_PARAMETERS = {"document_id": "doc-123", "options": {"format": "pdf", "quality": "high"}}
_SUBMITTED = "2026-05-20T10:30:00.120000Z"
_STARTED = "2026-05-20T10:30:00.131000Z"
_COMPLETED = "2026-05-20T10:30:02.480000Z"
_WORKER = "worker-1:4711"

SUBMIT: dict[str, Any] = {"task_type": _TYPE, "task_parameters": _PARAMETERS}
BATCH: dict[str, Any] = {"tasks": [SUBMIT, {**SUBMIT, "priority": 9, "tags": ["urgent"]}]}

ACCEPTED: dict[str, Any] = {"task_id": _ID, "status": "PENDING", "message": "任务已成功提交"}
BATCH_ACCEPTED: dict[str, Any] = {"tasks": [{"task_id": _ID, "status": "PENDING"}], "accepted": 1}

STATUS: dict[str, Any] = {
    "task_id": _ID,
    "task_type": _TYPE,
    "status": "SUCCESS",
    "submitted_at": _SUBMITTED,
    "started_at": _STARTED,
    "completed_at": _COMPLETED,
    "progress": {"progress": 100, "status": "done", "timestamp": _COMPLETED},
    "result": {
        "document_id": "doc-123",
        "status": "processed",
        "pages_processed": 15,
        "processing_time": 2.3,
    },
    "error": None,
    "queue": "default",
    "attempt": 1,
    "max_attempts": 4,
    "run_at": None,
    "worker": _WORKER,
    "cancel_requested": False,
}

TASK_PAGE: dict[str, Any] = {
    "tasks": [
        {
            "task_id": _ID,
            "task_type": _TYPE,
            "status": "SUCCESS",
            "submitted_at": _SUBMITTED,
            "started_at": _STARTED,
            "completed_at": _COMPLETED,
            "progress": STATUS["progress"],
            "queue": "default",
            "priority": 5,
            "attempt": 1,
            "run_at": None,
            "cancel_requested": False,
            "tags": [],
        }
    ],
    "total_count": 1,
    "page": 1,
    "page_size": 10,
    "next_cursor": None,
    "total_is_minimum": False,
}

TASK_DETAIL: dict[str, Any] = {
    **STATUS,
    "parameters": _PARAMETERS,
    "args": None,
    "priority": 5,
    "expires_at": None,
    "retries": 0,
    "max_retries": None,
    "worker_deaths": 0,
    "time_limit": None,
    "soft_time_limit": None,
    "on_worker_lost": None,
    "terminate": False,
    "celery_id": None,
    "metadata": None,
    "tags": [],
    "rerun_of": None,
    "reruns": [],
    "unique_key": None,
    "request_id": "01a20af5-9b0b-7ac1-a078-6b6458a8bc4d",
    "trace_id": None,
    "attempts": [
        {
            "attempt": 1,
            "worker": _WORKER,
            "started_at": _STARTED,
            "ended_at": _COMPLETED,
            "outcome": "succeeded",
        }
    ],
    "attempts_truncated": False,
    "links": {
        "self": f"/tasks/{_ID}",
        "status": f"/tasks/{_ID}/status",
        "events": f"/tasks/{_ID}/events",
        "stream": f"/tasks/{_ID}/stream",
        "task_type": f"/task-types/{_TYPE}",
    },
}

EVENT_PAGE: dict[str, Any] = {
    "task_id": _ID,
    "events": [
        {"seq": 1, "kind": "submitted", "at": _SUBMITTED, "attempt": 0, "actor": "api", "data": None},
        {
            "seq": 2,
            "kind": "dispatched",
            "at": _STARTED,
            "attempt": 0,
            "actor": f"worker:{_WORKER}",
            "data": None,
        },
        {
            "seq": 3,
            "kind": "started",
            "at": _STARTED,
            "attempt": 1,
            "actor": f"worker:{_WORKER}",
            "data": None,
        },
        {
            "seq": 4,
            "kind": "succeeded",
            "at": _COMPLETED,
            "attempt": 1,
            "actor": f"worker:{_WORKER}",
            "data": None,
        },
    ],
    "next_cursor": None,
}

STREAM = f"""retry: 1000

id: 1
event: submitted
data: {{"seq":1,"kind":"submitted","at":"{_SUBMITTED}","attempt":0,"actor":"api","data":null}}

id: 2
event: dispatched
data: {{"seq":2,"kind":"dispatched","at":"{_STARTED}","attempt":0,"actor":"worker:{_WORKER}","data":null}}

"""
