"""The calls about what becomes of one task: ``/tasks/{task_id}/cancel``, ``/retry``, ``/rerun`` and ``/explain``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ledgerq_api.answers.languages import choose
from ledgerq_api.auth.gate import actor_of, caller_of
from ledgerq_api.documentation import IDEMPOTENCY_KEY, answers, json_body, text_header
from ledgerq_api.requests.bodies import decoded, read_optional
from ledgerq_api.requests.headers import header, text_of
from ledgerq_api.requests.lean import json_response
from ledgerq_api.requests.prefix import prefix_of
from ledgerq_api.requests.query import CheckedRoute
from ledgerq_api.tasks import action_examples as examples
from ledgerq_api.tasks import action_schemas as schemas
from ledgerq_api.tasks.actions import TaskActions
from ledgerq_api.tasks.endpoints import MAX_SUBMIT_BODY, TaskId
from ledgerq_shared.languages import Locale

_MAX_BODY = 16 * 1024
_BAD_BODY = (400, 413, 415, 422, 503)


def router(service: TaskActions, *, locale: Locale) -> APIRouter:
    """All of them."""
    routes = APIRouter(default_response_class=Response, route_class=CheckedRoute)
    _add_cancel_and_retry(routes, service)
    _add_rerun(routes, service)
    _add_explain(routes, service, locale)
    return routes


def _add_cancel_and_retry(routes: APIRouter, service: TaskActions) -> None:
    @routes.post(
        "/tasks/{task_id:task_id}/cancel",
        tags=["tasks"],
        status_code=202,
        summary="Cancel a task",
        openapi_extra={"requestBody": json_body("CancelBody", examples.CANCEL, required=False)},
        responses=answers(
            202, "CancelAnswer", "It is cancelled, or will be.", examples.CANCELLED, errors=(404, 409, *_BAD_BODY)
        ),
    )
    async def cancel(task_id: TaskId, request: Request) -> Response:
        """A waiting task (also one with an ETA, or between two tries) is REVOKED at once and never begins.

        One that a worker has just claimed is begun or REVOKED within moments; the answer waits, up to two seconds, until
        it is known which. A running one is asked to end: `cancel_requested` is true, and `status` becomes REVOKED when
        it does so. It may also end by itself first; then that is its outcome, and the only one. Cancelling survives
        restarts of everything. A task that has ended is answered 409 `task_is_final`.
        """
        body = decoded(await read_optional(request, limit=_MAX_BODY), schemas.decode_cancel)
        return json_response(await service.cancel(task_id, body, actor=actor_of(request.scope)), 202)

    @routes.post(
        "/tasks/{task_id:task_id}/retry",
        tags=["tasks"],
        status_code=202,
        summary="Run a failed or revoked task again",
        openapi_extra={"requestBody": json_body("RetryBody", examples.RETRY, required=False)},
        responses=answers(202, "RetryAnswer", "It will run again.", examples.RETRIED, errors=(404, 409, *_BAD_BODY)),
    )
    async def retry(task_id: TaskId, request: Request) -> Response:
        """FAILURE or REVOKED becomes PENDING, under the same id. Attempts go on counting, the history is kept.

        Retries begin anew. A task that has not ended is answered 409 `task_is_not_final`, one that succeeded 409
        `task_is_final`.
        """
        body = decoded(await read_optional(request, limit=_MAX_BODY), schemas.decode_retry)
        return json_response(await service.retry(task_id, body, actor=actor_of(request.scope)), 202)


def _add_rerun(routes: APIRouter, service: TaskActions) -> None:
    @routes.post(
        "/tasks/{task_id:task_id}/rerun",
        tags=["tasks"],
        status_code=202,
        summary="Submit a task like this one",
        openapi_extra={
            "requestBody": json_body("RerunBody", examples.RERUN, required=False),
            "parameters": [IDEMPOTENCY_KEY],
        },
        responses=answers(
            202,
            "RerunAnswer",
            "The new task is in the ledger.",
            examples.RERUN_ANSWER,
            errors=(404, *_BAD_BODY),
            headers={"Location": text_header("Where the new task's status is.")},
        ),
    )
    async def rerun(task_id: TaskId, request: Request) -> Response:
        """A new task with the old one's type, parameters, queue, priority, limits, metadata and tags.

        The body's fields replace those; `task_parameters` replaces single parameters. Times (`eta`, `countdown`,
        `expires`) and keys are not taken over. The new task names the old one in `rerun_of`, the old one its new ones
        in `reruns`.
        """
        encoded = await read_optional(request, limit=MAX_SUBMIT_BODY)
        body = decoded(encoded, schemas.decode_rerun, schemas.decode_rerun_again)
        key = text_of(request.scope, b"idempotency-key")
        caller = caller_of(request.scope)
        made = await service.rerun(task_id, body, caller=caller, key=key, encoded=encoded)
        location = f"{prefix_of(request.scope)}/tasks/{made.task_id}/status"
        return json_response(made, 202, location=location)


def _add_explain(routes: APIRouter, service: TaskActions, locale: Locale) -> None:
    @routes.get(
        "/tasks/{task_id:task_id}/explain",
        tags=["tasks"],
        summary="Why a task is not running",
        responses=answers(
            200, "Explanation", "Findings, what matters most first.", examples.EXPLANATION, errors=(404, 422, 503)
        ),
    )
    async def explain(task_id: TaskId, request: Request) -> Response:
        """Where the task stands and what is in its way.

        Codes: `ended`, `not_retried`, `running`, `claimed`, `worker_silent`, `cancel_requested`, `eta`, `retry`, `due`,
        `limit`, `no_maintenance`, `queue_paused`, `no_worker_for_queue`, `no_worker_for_type`, `ahead`, `workers_busy`,
        `alone`, `next`, `expires`.
        """
        language = choose(header(request.scope, b"accept-language") or b"", locale)
        return json_response(await service.explain(task_id, language))
