"""http.md: every call, from the API's own OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from ledgerq_api.app import build_services, create_app
from ledgerq_api.settings import ApiSettings
from ledgerq_shared.settings import StoreSettings
from reference.tables import table

_INTRODUCTION = """# HTTP API

The same as `/openapi.json` and `/docs` of a running server, to be read in one go. [A guide](../guides/api.md) has examples.
Bodies are JSON (`Content-Type: application/json`), times are RFC 3339 in UTC, unknown body fields are refused. Errors are
`application/problem+json`; their codes stand in [errors](errors.md). `?` marks fields and parameters that may be left out,
`null` those that may be null.
"""

#: Nothing connects to this, because the document is made from the code alone.
_NOWHERE = {"database_url": "postgresql://nobody@127.0.0.1:1/nothing"} | dict.fromkeys(
    ("redis_url", "celery_broker_url", "celery_result_backend"), "redis://127.0.0.1:1/0"
)


def page() -> str:
    """The whole page."""
    document = openapi()
    calls = [
        (method.upper(), path, call) for path, methods in document["paths"].items() for method, call in methods.items()
    ]
    contents = ((f"[`{method} {path}`](#{_anchor(method, path)})", call["summary"]) for method, path, call in calls)
    text = _INTRODUCTION + table(("call", "what it does"), contents)
    for method, path, call in calls:
        text += _call(method, path, call)
    text += "## Types\n\n"
    for name, schema in sorted(document["components"]["schemas"].items()):
        if schema.get("properties"):
            rows = table(("field", "type", "meaning"), _fields(schema))
            text += f"### {name}\n\n{_sentence(schema.get('description', ''))}\n{rows}"
    return text.rstrip("\n") + "\n"


def openapi() -> dict[str, Any]:
    """The OpenAPI document of an API with default settings."""
    settings = ApiSettings.model_construct()
    document: dict[str, Any] = create_app(build_services(StoreSettings(**_NOWHERE), settings), settings).openapi()
    return document


def _call(method: str, path: str, call: dict[str, Any]) -> str:
    scopes = {scope for way in call["security"] for scope_list in way.values() for scope in scope_list}
    needs = f"Needs `{scopes.pop()}`." if scopes else "Needs no key."
    text = f"## {method} {path}\n\n{_sentence(call['summary'])} {' '.join(call['description'].split())} {needs}\n"
    if parameters := call.get("parameters"):
        text += table(("parameter", "in", "type", "meaning"), (_parameter(one) for one in parameters))
    else:
        text += "\n"
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        text += f"Body: {_type(body)}.\n\n"
    return text + f"Answers: {', '.join(_answers(call['responses']))}.\n\n"


def _answers(responses: dict[str, Any]) -> Iterator[str]:
    for status, response in responses.items():
        kinds = [_type(content["schema"]) for content in response.get("content", {}).values()]
        yield f"{status} {kinds[0] if kinds else HTTPStatus(int(status)).phrase}"


def _parameter(one: dict[str, Any]) -> tuple[str, ...]:
    schema = one["schema"]
    default = f" Default: {schema['default']}." if schema.get("default") is not None else ""
    return (
        f"`{one['name']}`{'' if one['required'] else '?'}",
        one["in"],
        _type(schema, is_null_told=False),
        one["description"] + default,
    )


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        inner = next((one for one in field.get("anyOf", []) if "description" in one), {})
        meaning = field.get("description") or inner.get("description") or ""
        yield (
            f"`{name}`{'' if name in required else '?'}",
            _type(field, is_null_told=name in required),
            _sentence(meaning),
        )


def _type(schema: dict[str, Any], *, is_null_told: bool = True) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "[state](states.md)" if name == "State" else f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kinds = schema.get("anyOf") or [{**schema, "type": kind} for kind in _list(schema.get("type", "anything"))]
    told = [_plain(kind) if "type" in kind else _type(kind) for kind in kinds]
    return ", ".join(dict.fromkeys(kind for kind in told if is_null_told or kind != "null"))


def _plain(schema: dict[str, Any]) -> str:
    kind = schema["type"]
    if kind == "array":
        inside = f" of {_type(schema['items'])}" if "items" in schema else ""
        return f"list{inside}" + _bounds(schema, "Items")
    if kind == "string":
        return {"date-time": "time", "uuid": "UUID"}.get(schema.get("format", ""), "text") + _bounds(schema, "Length")
    return {"integer": "whole number", "boolean": "true or false"}.get(kind, kind) + _range(schema)


def _bounds(schema: dict[str, Any], what: str) -> str:
    most = schema.get(f"max{what}")
    return f" (at most {most:,}{' characters' if what == 'Length' else ''})" if most is not None else ""


def _range(schema: dict[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    bounds = [f"{word} {schema[key]:,}" for key, word in words.items() if key in schema]
    return f" ({' '.join(bounds)})" if bounds else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "?", "!")) else f"{text}."


def _anchor(method: str, path: str) -> str:
    """The anchor that GitHub makes from the heading."""
    return re.sub(r"[^a-z0-9 _-]", "", f"{method} {path}".lower()).replace(" ", "-")
