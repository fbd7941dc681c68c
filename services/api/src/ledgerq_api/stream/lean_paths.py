"""OpenAPI of the stream, which FastAPI does not see."""

from __future__ import annotations

from typing import Any

from ledgerq_api.documentation import answers, header_parameter
from ledgerq_api.tasks import examples
from ledgerq_api.tasks.lean_paths import ANY_TASK_ID


def _answers() -> dict[str, Any]:
    good = {
        "description": "Events of the history, oldest first; `data` is an `EventEntry`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": examples.STREAM}},
    }
    failures = {str(status): answer for status, answer in answers(200, "", "", None, errors=(404, 422, 503)).items()}
    return {**failures, "200": good, "204": {"description": "The task is final and you have its last event."}}


LEAN_PATHS: dict[str, Any] = {
    "/tasks/{task_id}/stream": {
        "get": {
            "tags": ["tasks"],
            "summary": "Follow a task live",
            "description": "Server-Sent Events: the history so far, then each step as it is committed. Ends after the final "
            "event. `Last-Event-ID` goes on after that event. While nothing happens, a comment keeps the connection open.",
            "operationId": "stream_task",
            "parameters": [
                ANY_TASK_ID,
                header_parameter(
                    "Last-Event-ID",
                    "`id` of the last event that you have.",
                    {"type": "string", "pattern": "^[0-9]{1,9}$"},
                ),
            ],
            "responses": _answers(),
        }
    },
}
