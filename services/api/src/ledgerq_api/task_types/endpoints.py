"""The calls under ``/task-types``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from ledgerq_api.documentation import answers
from ledgerq_api.requests.lean import json_response
from ledgerq_api.requests.query import CheckedRoute
from ledgerq_api.task_types.service import TaskTypeService

_EXAMPLE: dict[str, Any] = {
    "name": "clients.celery.example_tasks.process_document",
    "doc": "Read a document of the document folder, page by page.",
    "parameters_schema": {
        "type": "object",
        "properties": {"document_id": {"type": "string"}, "options": {"type": "object"}},
        "required": ["document_id"],
        "additionalProperties": False,
    },
    "queue": "default",
    "options": {"max_retries": 3, "time_limit": None, "on_worker_lost": "rerun"},
    "live_workers": ["worker-1:4711"],
    "registered_at": "2026-05-20T10:00:00Z",
    "updated_at": "2026-05-20T10:00:00Z",
}


def router(service: TaskTypeService) -> APIRouter:
    """Both calls."""
    routes = APIRouter(tags=["task types"], default_response_class=Response, route_class=CheckedRoute)

    @routes.get(
        "/task-types",
        summary="List task types",
        responses=answers(
            200, "TaskTypeList", "The catalogue.", {"task_types": [_EXAMPLE], "total_count": 1}, errors=(503,)
        ),
    )
    async def list_task_types() -> Response:
        """All registered task types with the JSON Schema of their parameters."""
        return json_response(await service.list_all())

    @routes.get(
        "/task-types/{name:path}",
        summary="One task type",
        responses=answers(200, "TaskTypeEntry", "The task type.", _EXAMPLE, errors=(404, 503)),
    )
    async def show_task_type(name: Annotated[str, Path(description="Its full dotted name.")]) -> Response:
        """What it does, what it takes, and who serves it."""
        return json_response(await service.show(name))

    return routes
