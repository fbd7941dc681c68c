"""``/openapi.json``: FastAPI's document, completed with the lean calls, the wire types and the errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from msgspec import Struct

from ledgerq_api.auth.scopes import needed_for

_REFERENCE = "#/components/schemas/{name}"

_DESCRIPTION = """
A durable task queue. A task that was accepted (202) is committed in PostgreSQL and will run; its status,
progress, result and history are kept there.

Calls need an API key with the scope that they name, unless the server listens on its own machine only and no key was
ever made. Send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`.

Times are RFC 3339 in UTC. Errors are `application/problem+json` (RFC 9457) with a stable `code`. Unknown body
fields are refused. Lists have cursors as well as pages.
"""

_ERRORS = {
    400: ("The body is not JSON.", "malformed_json", "The body is not valid JSON."),
    401: (
        "There is no API key, or it is unknown, revoked or expired.",
        "api_key_missing",
        "This call needs an API key.",
    ),
    403: (
        "The API key does not have the scope that this call needs.",
        "scope_missing",
        "The API key does not have the scope that this call needs.",
    ),
    404: ("There is no such thing.", "task_not_found", "No task has this id."),
    409: ("The task, or another one, is in the way.", "task_is_final", "The task has already ended."),
    413: ("The body is too large.", "body_too_large", "The request body is too large."),
    415: ("The body is not declared as JSON.", "unsupported_media_type", "The request body must be JSON."),
    422: ("The request is understood and wrong.", "invalid_request", "The request is not valid."),
    429: (
        "The API key makes too many requests (where that is limited); `Retry-After` says when to go on.",
        "rate_limited",
        "The API key makes too many requests; `Retry-After` says when to go on.",
    ),
    503: (
        "PostgreSQL is away, or no task type is registered; `Retry-After` says when to try again.",
        "ledger_unavailable",
        "PostgreSQL cannot be reached; nothing was recorded.",
    ),
}


#: Two ways to send the same key.
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer lq_…`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key: `X-API-Key: lq_…`."},
}

#: Groups of calls, in the order in which a reader needs them.
_GROUPS = {
    "tasks": "Submit, follow and steer tasks.",
    "task types": "What may be submitted, with which parameters.",
    "queues": "What waits where; pause and resume; how many workers are needed.",
    "workers": "Who runs tasks now.",
    "health": "For people, load balancers and orchestrators.",
}

#: Paths in the order in which a reader needs them, within their groups too.
_PATHS = (
    "/tasks/submit",
    "/tasks/{task_id}/status",
    "/tasks/",
    "/tasks/{task_id}",
    "/tasks/{task_id}/events",
    "/tasks/{task_id}/stream",
    "/tasks/{task_id}/explain",
    "/tasks/{task_id}/cancel",
    "/tasks/{task_id}/retry",
    "/tasks/{task_id}/rerun",
    "/tasks/submit/batch",
    "/task-types",
    "/task-types/{name}",
    "/queues",
    "/queues/{name}",
    "/queues/{name}/pause",
    "/queues/{name}/resume",
    "/scaling",
    "/workers",
    "/health",
    "/readyz",
    "/livez",
)

#: Examples of parameters, by how their path begins. `PUT /queues/{name}` makes the queue that is paused and resumed
#: after it: nobody's work stands still.
_PARAMETERS = {
    "/tasks/{task_id}": ("task_id", "01985c3e-7a52-7d31-9b64-0c4f8f0e2a11"),
    "/task-types/{name}": ("name", "clients.celery.example_tasks.process_document"),
    "/queues/{name}": ("name", "documents"),
}


class ProblemEntry(Struct, kw_only=True, omit_defaults=True):
    """One of several things that are wrong."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(Struct, kw_only=True):
    """An error (RFC 9457). Some have further members, such as `suggestions`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ProblemEntry] = []


def answers(
    status: int,
    schema: str,
    description: str,
    example: object,
    *,
    errors: Iterable[int] = (),
    instead: Mapping[int, tuple[str, str, str]] | None = None,
    headers: dict[str, Any] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of an operation: what it answers on success, and its errors.

    Args:
        instead: for an error's status, a description, code and title of its own.
    """
    good: dict[str, Any] = {
        "description": description,
        "content": _content("application/json", schema, example),
    }
    if headers:
        good["headers"] = headers
    return {status: good, **{error: _error(error, (instead or {}).get(error)) for error in errors}}


def json_body(schema: str, example: object, *, required: bool = True) -> dict[str, Any]:
    """An operation's ``requestBody``."""
    reference = {"$ref": _REFERENCE.format(name=schema)}
    return {"required": required, "content": {"application/json": {"schema": reference, "example": example}}}


def header_parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """An optional request header, as one of an operation's ``parameters``."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


IDEMPOTENCY_KEY = header_parameter(
    "Idempotency-Key",
    "With the same body, the first answer is given again; with another body, 422.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
)


def text_header(description: str) -> dict[str, Any]:
    """A response header."""
    return {"description": description, "schema": {"type": "string"}}


def install(app: FastAPI, *, paths: dict[str, Any], wire_types: list[Any]) -> None:
    """Complete the app's OpenAPI.

    Args:
        paths: the paths of the lean calls, as OpenAPI describes them.
        wire_types: msgspec types that answers and bodies refer to by name.
    """
    app.openapi = _maker(app, paths, wire_types)  # type: ignore[method-assign]


def _maker(app: FastAPI, paths: dict[str, Any], wire_types: list[Any]) -> Callable[[], dict[str, Any]]:
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(get_openapi(title=app.title, version=app.version, routes=app.routes, description=_DESCRIPTION))
            _, components = msgspec.json.schema_components([*wire_types, Problem], ref_template=_REFERENCE)
            made.setdefault("components", {}).setdefault("schemas", {}).update(components)
            _drop_fastapis_errors(made)
            for path, operations in paths.items():
                made["paths"].setdefault(path, {}).update(operations)
            made["tags"] = [{"name": name, "description": text} for name, text in _GROUPS.items()]
            _add_security(made)
            _add_examples(made)
            made["paths"] = {path: _with_nulls(made["paths"][path]) for path in sorted(made["paths"], key=_place)}
        return made

    return openapi


def _place(path: str) -> tuple[int, str]:
    return (_PATHS.index(path) if path in _PATHS else len(_PATHS)), path


def _add_examples(document: dict[str, Any]) -> None:
    """Give the parameters in paths examples, so that a call can be tried without thinking of a name."""
    for path, operations in document["paths"].items():
        named, example = _PARAMETERS.get("/".join(path.split("/")[:3]), ("", ""))
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == named:
                    parameter["example"] = example


def _add_security(document: dict[str, Any]) -> None:
    """Say for every call which scope it needs, and how it is refused without that scope."""
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needed = needed_for(method.upper(), path)
            operation["security"] = [{name: [needed]} for name in _SECURITY_SCHEMES] if needed else []
            if needed:
                refusals = {str(status): _error(status) for status in (401, 403, 429)}
                operation["responses"] = dict(sorted({**operation["responses"], **refusals}.items()))


def _drop_fastapis_errors(document: dict[str, Any]) -> None:
    """FastAPI documents a 422 of its own for every call with a parameter; ours have another form."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _error(status: int, own: tuple[str, str, str] | None = None) -> dict[str, Any]:
    description, code, title = own or _ERRORS[status]
    example = {
        "type": f"urn:ledgerq:problem:{code}",
        "title": title,
        "status": status,
        "detail": title,
        "instance": "/tasks/submit",
        "code": code,
    }
    response = {
        "description": description,
        "content": _content("application/problem+json", "Problem", example),
    }
    if status in {429, 503}:
        response["headers"] = {"Retry-After": text_header("Seconds.")}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": text_header("`Bearer`.")}
    return response


def _content(media_type: str, schema: str, example: object) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REFERENCE.format(name=schema)}, "example": _without_nulls(example)}}


#: Stands for null in examples while they pass through FastAPI, which drops every None.
_NULL = "\0"


def _without_nulls(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _without_nulls(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_without_nulls(value) for value in node]
    return _NULL if node is None else node


def _with_nulls(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _with_nulls(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_with_nulls(value) for value in node]
    return None if node == _NULL else node
