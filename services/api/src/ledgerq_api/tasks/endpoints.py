"""The calls under ``/tasks``: they parse the request and answer with what the service returns."""

from __future__ import annotations

from functools import partial
from typing import Annotated, get_args
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.types import Receive, Scope, Send

from ledgerq_api.answers.languages import EXISTS, SUBMITTED, choose
from ledgerq_api.auth.gate import actor_of, caller_of, check_again
from ledgerq_api.auth.keyring import Keyring
from ledgerq_api.documentation import answers
from ledgerq_api.requests.bodies import decoded, read_json_body
from ledgerq_api.requests.headers import header, text_of
from ledgerq_api.requests.lean import JSON, LeanRoute, answer, encode, json_response, unless_gone
from ledgerq_api.requests.origin import origin
from ledgerq_api.requests.prefix import prefix_of
from ledgerq_api.requests.query import CheckedRoute
from ledgerq_api.tasks import examples
from ledgerq_api.tasks.drafts import draft
from ledgerq_api.tasks.listing import ListQuery
from ledgerq_api.tasks.long_poll import wait_of
from ledgerq_api.tasks.schemas import decode_batch, decode_batch_again, decode_submit, decode_submit_again
from ledgerq_api.tasks.service import TaskService, matches, tag_of
from ledgerq_api.tasks.submitting import Submitting
from ledgerq_shared.languages import Locale, spoken
from ledgerq_shared.tasks.submitting import Existing

MAX_SUBMIT_BODY = 2 * 1024 * 1024
MAX_BATCH_BODY = 16 * 1024 * 1024

#: JSON is sent as UTF-8, so that a terminal shows the message.
_ACCEPTED: dict[Locale, bytes] = {
    language: b'","status":"PENDING","message":' + encode(spoken(SUBMITTED, language)) + b"}"
    for language in get_args(Locale)
}

_REVALIDATE = (b"cache-control", b"no-cache")

#: A task is also found by the id that a Celery producer gave it, which may be any text.
TaskId = Annotated[str, Path(description="The task's id, or the id that its Celery producer gave it.")]


def lean_routes(submitting: Submitting, service: TaskService, keyring: Keyring, *, locale: Locale) -> list[LeanRoute]:
    """The calls whose speed matters."""
    calls = _LeanCalls(submitting, service, keyring, locale)
    return [
        LeanRoute("/tasks/submit", calls.submit, method="POST"),
        LeanRoute("/tasks/{task_id}/status", calls.status, method="GET"),
        LeanRoute("/tasks/submit/batch", calls.submit_batch, method="POST"),
    ]


class _LeanCalls:
    def __init__(self, submitting: Submitting, service: TaskService, keyring: Keyring, locale: Locale) -> None:
        self._submitting = submitting
        self._service = service
        self._keyring = keyring
        self._locale = locale

    async def submit(self, scope: Scope, receive: Receive, send: Send) -> None:
        encoded = await read_json_body(scope, receive, limit=MAX_SUBMIT_BODY)
        body = decoded(encoded, decode_submit, decode_submit_again)
        key = text_of(scope, b"idempotency-key")
        make = partial(draft, body, caller=caller_of(scope), trace=origin().text())
        outcome = await self._submitting.submit(make, key=key, encoded=encoded)
        text = str(outcome if isinstance(outcome, UUID) else outcome.id).encode()
        location = prefix_of(scope).encode() + b"/tasks/" + text + b"/status"
        language = choose(header(scope, b"accept-language") or b"", self._locale)
        rest = _ACCEPTED[language] if isinstance(outcome, UUID) else _existing(outcome, language)
        await answer(send, 202, b'{"task_id":"' + text + rest, [JSON, (b"location", location)])

    async def submit_batch(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = text_of(scope, b"idempotency-key")
        encoded = await read_json_body(scope, receive, limit=MAX_BATCH_BODY)
        body = decoded(encoded, decode_batch, decode_batch_again)
        accepted = await self._submitting.submit_all(body.tasks, caller=caller_of(scope), key=key, encoded=encoded)
        await answer(send, 202, accepted, [JSON])

    async def status(self, scope: Scope, receive: Receive, send: Send) -> None:
        task_id = scope["path_params"]["task_id"]
        known_tag = header(scope, b"if-none-match")
        wait = wait_of(header(scope, b"prefer"))
        if wait:
            scope["waits"] = True  # its duration says nothing about our speed
            check = partial(check_again, scope, self._keyring)
            row = await unless_gone(receive, self._service.news(task_id, known_tag, seconds=wait, check=check))
        else:
            row = await self._service.status(task_id)
        headers = [(b"etag", tag_of(row)), _REVALIDATE]
        if wait:
            headers.append((b"preference-applied", b"wait=%d" % wait))
        if known_tag is not None and matches(known_tag, row):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body"})
            return
        headers.append(JSON)
        await answer(send, 200, encode(await self._service.status_answer(row)), headers)


def _existing(task: Existing, language: Locale) -> bytes:
    return b'","status":"%s","message":%s}' % (task.state.encode(), encode(spoken(EXISTS, language)))


def router(service: TaskService) -> APIRouter:
    """The other calls."""
    routes = APIRouter(tags=["tasks"], default_response_class=Response, route_class=CheckedRoute)

    async def list_tasks(query: Annotated[ListQuery, Query()], request: Request) -> Response:
        """Tasks, newest first.

        `total_count` is exact for any combination of `task_type`, `status` and `queue`. With other filters it
        is exact up to 10,000; beyond that it says 10,000 and `total_is_minimum` is true. Pages reach to row
        10,000; `cursor` reaches everything. A page whose rows would be more than 4 MiB ends early: go on with its
        `next_cursor`, for the page of the next number begins behind what was left out.
        """
        return json_response(await service.list_page(query, actor=actor_of(request.scope)))

    documented = answers(200, "TaskPage", "A page of tasks.", examples.TASK_PAGE, errors=(422, 503))
    routes.add_api_route("/tasks/", list_tasks, methods=["GET"], summary="List tasks", responses=documented)
    routes.add_api_route("/tasks", list_tasks, methods=["GET"], include_in_schema=False)

    @routes.get(
        "/tasks/{task_id:task_id}",
        summary="Everything about a task",
        responses=answers(200, "TaskDetail", "The task.", examples.TASK_DETAIL, errors=(404, 503)),
    )
    async def show_task(task_id: TaskId, request: Request) -> Response:
        """Parameters, result, attempts, metadata, links."""
        return json_response(await service.everything(task_id, prefix=prefix_of(request.scope)))

    @routes.get(
        "/tasks/{task_id:task_id}/events",
        summary="A task's history",
        responses=answers(200, "EventPage", "Steps, oldest first.", examples.EVENT_PAGE, errors=(404, 422, 503)),
    )
    async def show_events(
        task_id: TaskId,
        cursor: Annotated[
            int,
            Query(
                ge=0,
                le=2_147_483_647,
                description="Only steps after this `seq`; `next_cursor` of the page before.",
            ),
        ] = 0,
        page_size: Annotated[int, Query(ge=1, le=1000, description="Most steps.")] = 1000,
    ) -> Response:
        """Every recorded step: submitted, dispatched, started, progress, succeeded and so on.

        A page whose steps would be more than 4 MiB ends early; go on with its `next_cursor`.
        """
        return json_response(await service.events(task_id, after=cursor, limit=page_size))

    return routes
