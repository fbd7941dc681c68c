"""``/queues``: list, pause, resume, set up."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from ledgerq_api.auth.gate import actor_of
from ledgerq_api.documentation import answers, json_body
from ledgerq_api.queues import schemas
from ledgerq_api.queues.pausing import QueuePauses
from ledgerq_api.queues.service import QueueService
from ledgerq_api.requests.bodies import decoded, read_optional
from ledgerq_api.requests.lean import json_response
from ledgerq_api.requests.query import CheckedRoute
from ledgerq_shared.errors import InvalidRequest, QueueNotFound
from ledgerq_shared.languages import say

_MAX_BODY = 16 * 1024
_BAD_BODY = (400, 413, 415, 422, 503)

#: Any queue that exists can be addressed: Celery allows every name. A new one has to keep to the pattern.
QueueName = Annotated[str, Path(description="The queue's name.", min_length=1, max_length=255, pattern=r"^[^\x00]*$")]

_SetQueueName = Annotated[
    str,
    Path(
        description="The queue's name; that of a new one keeps to the pattern.",
        min_length=1,
        max_length=255,
        json_schema_extra={"pattern": schemas.QUEUE_PATTERN, "maxLength": schemas.LONGEST_QUEUE_NAME},
    ),
]

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

_BODY: dict[str, Any] = {"paused": True}
_STATE: dict[str, Any] = {"name": "documents", "paused": True}


def router(service: QueueService, pauses: QueuePauses) -> APIRouter:
    """All of them."""
    routes = APIRouter(tags=["queues"], default_response_class=Response, route_class=CheckedRoute)

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
        return json_response(await service.list_page(after=cursor, limit=page_size), cache=None)

    _add_changes(routes, pauses)
    return routes


def _add_changes(routes: APIRouter, pauses: QueuePauses) -> None:
    documented = answers(200, "QueueState", "How the queue is now.", _STATE, errors=(404, *_BAD_BODY))

    @routes.post("/queues/{name:path}/pause", summary="Pause a queue", responses=documented)
    async def pause(name: QueueName, request: Request) -> Response:
        """Nothing is begun from it until it is resumed. What runs goes on, and tasks are accepted as before.

        Takes no body. A queue that was never used is answered 404: it may be a typing error. `PUT` makes one.
        """
        decoded(await read_optional(request, limit=_MAX_BODY), schemas.decode_nothing)
        return json_response(await pauses.pause(name, actor=actor_of(request.scope)))

    @routes.post("/queues/{name:path}/resume", summary="Resume a queue", responses=documented)
    async def resume(name: QueueName, request: Request) -> Response:
        """Its tasks are begun again, at once. Takes no body."""
        decoded(await read_optional(request, limit=_MAX_BODY), schemas.decode_nothing)
        return json_response(await pauses.resume(name, actor=actor_of(request.scope)))

    @routes.put(
        "/queues/{name:path}",
        summary="Set a queue up",
        openapi_extra={"requestBody": json_body("QueueBody", _BODY, required=True)},
        responses=answers(200, "QueueState", "How the queue is now.", _STATE, errors=_BAD_BODY),
    )
    async def put(name: _SetQueueName, request: Request) -> Response:
        """Makes the queue if it was never used, so that it can be paused before its first task."""
        body = decoded(await read_optional(request, limit=_MAX_BODY), schemas.decode_queue)
        change = pauses.pause if body.paused else pauses.resume
        may_be_made = schemas.is_queue_name(name)
        try:
            return json_response(await change(name, actor=actor_of(request.scope), make=may_be_made))
        except QueueNotFound:
            reason = "a new queue's name has up to 128 letters, digits and _.:@-, and is not . or .."
            raise InvalidRequest(
                say("name: {reason}.", reason=reason), errors=[{"detail": reason, "parameter": "name"}]
            ) from None
