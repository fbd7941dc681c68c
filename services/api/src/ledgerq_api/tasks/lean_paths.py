"""OpenAPI of the lean calls, which FastAPI does not see."""

from __future__ import annotations

from typing import Any

from ledgerq_api.documentation import IDEMPOTENCY_KEY, answers, header_parameter, json_body, text_header
from ledgerq_api.tasks import examples

_SUBMIT_ERRORS = (400, 409, 413, 415, 422, 503)
_TAKEN = {
    409: (
        "Another task holds the unique key.",
        "duplicate_task",
        "A task with this unique_key is already waiting or running.",
    )
}


ANY_TASK_ID: dict[str, Any] = {
    "name": "task_id",
    "in": "path",
    "required": True,
    "description": "The task's id, or the id that its Celery producer gave it.",
    "schema": {"type": "string"},
}

LEAN_PATHS: dict[str, Any] = {
    "/tasks/submit": {
        "post": {
            "tags": ["tasks"],
            "summary": "Submit a task",
            "description": "Answers 202 once the task is committed in PostgreSQL. The parameters are checked "
            "against the task type's JSON Schema first; an unknown type is answered with the nearest names. "
            "Where `unique_key` is taken, `unique_policy` decides.",
            "operationId": "submit_task",
            "parameters": [
                IDEMPOTENCY_KEY,
                header_parameter("Accept-Language", "Language of `message`: `zh` or `en`.", {"type": "string"}),
            ],
            "requestBody": json_body("SubmitBody", examples.SUBMIT),
            "responses": {
                str(status): response
                for status, response in answers(
                    202,
                    "Accepted",
                    "The task is in the ledger.",
                    examples.ACCEPTED,
                    errors=_SUBMIT_ERRORS,
                    instead=_TAKEN,
                    headers={"Location": text_header("Where its status is.")},
                ).items()
            },
        }
    },
    "/tasks/submit/batch": {
        "post": {
            "tags": ["tasks"],
            "summary": "Submit many tasks",
            "description": "Up to 10,000 tasks in one transaction: all are accepted or none. An error names "
            "the index of the task that is wrong.",
            "operationId": "submit_batch",
            "parameters": [IDEMPOTENCY_KEY],
            "requestBody": json_body("BatchBody", examples.BATCH),
            "responses": {
                str(status): response
                for status, response in answers(
                    202,
                    "BatchAccepted",
                    "All tasks are in the ledger, in the order sent.",
                    examples.BATCH_ACCEPTED,
                    errors=_SUBMIT_ERRORS,
                    instead=_TAKEN,
                ).items()
            },
        }
    },
    "/tasks/{task_id}/status": {
        "get": {
            "tags": ["tasks"],
            "summary": "How a task stands",
            "description": "State, progress and result. With `Prefer: wait=30` the answer is held until the "
            "task is final or, with `If-None-Match`, until the ETag changes; at most 60 seconds.",
            "operationId": "show_status",
            "parameters": [
                ANY_TASK_ID,
                header_parameter("If-None-Match", "ETag of the status that you have.", {"type": "string"}),
                header_parameter(
                    "Prefer", "`wait=<seconds>` waits for news.", {"type": "string", "examples": ["wait=30"]}
                ),
            ],
            "responses": {
                **{
                    str(status): response
                    for status, response in answers(
                        200,
                        "TaskStatus",
                        "The status.",
                        examples.STATUS,
                        errors=(404, 503),
                        headers={"ETag": text_header("Changes with every event of the task.")},
                    ).items()
                },
                "304": {"description": "The status that you have is the latest."},
            },
        }
    },
}
