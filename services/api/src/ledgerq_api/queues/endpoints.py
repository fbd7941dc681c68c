"""``/queues``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from ledgerq_api.documentation import answers
from ledgerq_api.lean import encode
from ledgerq_api.queues.service import QueueService

_EXAMPLE: dict[str, Any] = {
    "queues": [
        {
            "name": "default",
            "paused": False,
            "counts": {"PENDING": 3, "STARTED": 1, "RETRY": 0, "SUCCESS": 1200, "FAILURE": 2, "REVOKED": 0},
            "oldest_ready_seconds": 0.4,
            "worker_slots": 2,
        }
    ],
    "total_count": 1,
}


def router(service: QueueService) -> APIRouter:
    """The call."""
    routes = APIRouter(tags=["queues"], default_response_class=Response)

    @routes.get(
        "/queues",
        summary="List queues",
        responses=answers(200, "QueueList", "All queues.", _EXAMPLE, errors=(503,)),
    )
    async def list_queues() -> Response:
        """Depth by state, age of the oldest task that may run, and who serves it."""
        return Response(encode(await service.list_all()), media_type="application/json")

    return routes
