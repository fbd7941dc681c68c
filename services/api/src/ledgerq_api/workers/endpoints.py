"""``/workers``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from ledgerq_api.documentation import answers
from ledgerq_api.requests.lean import json_response
from ledgerq_api.requests.query import CheckedRoute
from ledgerq_api.workers.service import WorkerService

_TYPE = "clients.celery.example_tasks.process_document"
_STARTED = "2026-05-20T10:30:00.131000Z"
_EXAMPLE: dict[str, Any] = {
    "workers": [
        {
            "worker_id": "01985c3e-6d10-7b42-8a6f-3b1d5f7f9a20",
            "name": "worker-1:4711",
            "host": "worker-1",
            "pid": 4711,
            "pool": "prefork",
            "slots": 2,
            "queues": ["default"],
            "task_types": [_TYPE],
            "started_at": "2026-05-20T10:00:00Z",
            "heartbeat_age_seconds": 1.2,
            "stopping": False,
            "running": [
                {
                    "task_id": "01985c3e-7a52-7d31-9b64-0c4f8f0e2a11",
                    "task_type": _TYPE,
                    "started_at": _STARTED,
                }
            ],
        }
    ],
    "total_count": 1,
}


def router(service: WorkerService) -> APIRouter:
    """The call."""
    routes = APIRouter(tags=["workers"], default_response_class=Response, route_class=CheckedRoute)

    @routes.get(
        "/workers",
        summary="List live workers",
        responses=answers(200, "WorkerList", "All live workers.", _EXAMPLE, errors=(503,)),
    )
    async def list_workers() -> Response:
        """Host, process, queues, task types, what each runs, and the age of its heartbeat."""
        return json_response(await service.list_all(), cache=None)

    return routes
