"""``/queues``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

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
    "next_cursor": None,
}


def router(service: QueueService) -> APIRouter:
    """The call."""
    routes = APIRouter(tags=["queues"], default_response_class=Response)

    @routes.get(
        "/queues",
        summary="List queues",
        responses=answers(200, "QueueList", "A page of queues.", _EXAMPLE, errors=(422, 503)),
    )
    async def list_queues(
        cursor: Annotated[
            str, Query(max_length=255, pattern=r"^[^\x00]*$", description="`next_cursor` of the page before.")
        ] = "",
        page_size: Annotated[int, Query(ge=1, le=1000, description="Most queues.")] = 1000,
    ) -> Response:
        """Depth by state, age of the oldest task that may run, and who serves it.

        By name. Who names no page gets the first thousand; `total_count` says how many there are, and `next_cursor` how to
        go on.
        """
        return Response(encode(await service.list_page(after=cursor, limit=page_size)), media_type="application/json")

    return routes
