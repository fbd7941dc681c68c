"""The calls that change what is there: ``/tasks/{task_id}/cancel`` and its like, and ``PUT /queues/{name}``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from ledgerq_api.auth.gate import actor_of, caller_of
from ledgerq_api.control import examples, schemas
from ledgerq_api.control.service import ControlService
from ledgerq_api.documentation import IDEMPOTENCY_KEY, answers, json_body, text_header
from ledgerq_api.languages import Locale, choose
from ledgerq_api.lean import encode, header, read_json_body, text_of
from ledgerq_api.prefix import prefix_of
from ledgerq_api.tasks.drafts import Body, decoded
from ledgerq_api.tasks.endpoints import MAX_SUBMIT_BODY, TaskId
from ledgerq_api.tasks.schemas import LONGEST_QUEUE_NAME, QUEUE_PATTERN, is_queue_name
from ledgerq_shared.errors import InvalidRequest, QueueNotFound

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
        json_schema_extra={"pattern": QUEUE_PATTERN, "maxLength": LONGEST_QUEUE_NAME},
    ),
]


def router(service: ControlService, *, locale: Locale) -> APIRouter:
    """All of them."""
    routes = APIRouter(default_response_class=Response)
    _add_cancel_and_retry(routes, service)
    _add_rerun(routes, service)
    _add_explain(routes, service, locale)
    _add_queue_calls(routes, service)
    return routes


def _add_cancel_and_retry(routes: APIRouter, service: ControlService) -> None:
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
        body = await _read(request, schemas.decode_cancel)
        return _json(202, await service.cancel(task_id, body, actor=actor_of(request.scope)))

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
        body = await _read(request, schemas.decode_retry)
        return _json(202, await service.retry(task_id, body, actor=actor_of(request.scope)))


def _add_rerun(routes: APIRouter, service: ControlService) -> None:
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
        encoded = await _read_bytes(request, MAX_SUBMIT_BODY)
        body = decoded(encoded, schemas.decode_rerun, schemas.decode_rerun_again)
        key = text_of(request.scope, b"idempotency-key")
        caller = caller_of(request.scope)
        made = await service.rerun(task_id, body, caller=caller, key=key, encoded=encoded)
        location = f"{prefix_of(request.scope)}/tasks/{made.task_id}/status"
        return _json(202, made, location=location)


def _add_explain(routes: APIRouter, service: ControlService, locale: Locale) -> None:
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

        Codes: `ended`, `running`, `claimed`, `worker_silent`, `cancel_requested`, `eta`, `retry`, `due`, `limit`,
        `no_maintenance`, `queue_paused`, `no_worker_for_queue`, `no_worker_for_type`, `ahead`, `workers_busy`,
        `alone`, `next`, `expires`.
        """
        language = choose(header(request.scope, b"accept-language") or b"", locale)
        return _json(200, await service.explain(task_id, language))


def _add_queue_calls(routes: APIRouter, service: ControlService) -> None:
    documented = answers(200, "QueueState", "How the queue is now.", examples.QUEUE, errors=(404, *_BAD_BODY))

    @routes.post("/queues/{name:path}/pause", tags=["queues"], summary="Pause a queue", responses=documented)
    async def pause(name: QueueName, request: Request) -> Response:
        """Nothing is begun from it until it is resumed. What runs goes on, and tasks are accepted as before.

        Takes no body. A queue that was never used is answered 404: it may be a typing error. `PUT` makes one.
        """
        await _read(request, schemas.decode_nothing)
        return _json(200, await service.pause(name, actor=actor_of(request.scope)))

    @routes.post("/queues/{name:path}/resume", tags=["queues"], summary="Resume a queue", responses=documented)
    async def resume(name: QueueName, request: Request) -> Response:
        """Its tasks are begun again, at once. Takes no body."""
        await _read(request, schemas.decode_nothing)
        return _json(200, await service.resume(name, actor=actor_of(request.scope)))

    @routes.put(
        "/queues/{name:path}",
        tags=["queues"],
        summary="Set a queue up",
        openapi_extra={"requestBody": json_body("QueueBody", examples.QUEUE_BODY, required=True)},
        responses=answers(200, "QueueState", "How the queue is now.", examples.QUEUE, errors=_BAD_BODY),
    )
    async def put(name: _SetQueueName, request: Request) -> Response:
        """Makes the queue if it was never used, so that it can be paused before its first task."""
        body = await _read(request, schemas.decode_queue)
        change = service.pause if body.paused else service.resume
        may_be_made = is_queue_name(name)
        try:
            return _json(200, await change(name, actor=actor_of(request.scope), make=may_be_made))
        except QueueNotFound:
            reason = "a new queue's name has up to 128 letters, digits and _.:@-, and is not . or .."
            raise InvalidRequest(f"name: {reason}.", errors=[{"detail": reason, "parameter": "name"}]) from None


async def _read(request: Request, decode: Callable[[bytes], Body]) -> Body:
    return decoded(await _read_bytes(request, _MAX_BODY), decode)


async def _read_bytes(request: Request, limit: int) -> bytes:
    """The body, or that of somebody who has nothing to say.

    An empty body needs no `Content-Type`, except from a web page (which sends `Origin`): no page of another site may
    pause a queue with a plain form.
    """
    headers = request.headers
    is_empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if is_empty and "content-type" not in headers and "origin" not in headers:
        return b"{}"
    return await read_json_body(request.scope, request.receive, limit=limit) or b"{}"


def _json(status: int, body: object, *, location: str | None = None) -> Response:
    headers = {"cache-control": "no-cache"} | ({} if location is None else {"location": location})
    return Response(encode(body), status, media_type="application/json", headers=headers)
