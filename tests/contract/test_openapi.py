"""/openapi.json is complete, and its examples are what its schemas say."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest

from ledgerq_api import documentation
from ledgerq_api.answers.errors import InternalError
from ledgerq_api.app import build_services, create_app
from ledgerq_api.settings import ApiSettings
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.settings import StoreSettings

PATHS = {
    "/tasks/submit",
    "/tasks/submit/batch",
    "/tasks/",
    "/tasks/{task_id}",
    "/tasks/{task_id}/status",
    "/tasks/{task_id}/events",
    "/tasks/{task_id}/stream",
    "/tasks/{task_id}/cancel",
    "/tasks/{task_id}/retry",
    "/tasks/{task_id}/rerun",
    "/tasks/{task_id}/explain",
    "/task-types",
    "/task-types/{name}",
    "/queues",
    "/scaling",
    "/queues/{name}",
    "/queues/{name}/pause",
    "/queues/{name}/resume",
    "/workers",
    "/livez",
    "/readyz",
    "/health",
}


@pytest.fixture(scope="module")
def document():
    stores = StoreSettings(database_url="postgresql://nobody@127.0.0.1:1/nothing", redis_url="redis://127.0.0.1:1/0")
    settings = ApiSettings()
    app = create_app(build_services(stores, settings), settings)
    return json.loads(json.dumps(app.openapi()))


def operations(document):
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_call_is_there(document):
    assert set(document["paths"]) == PATHS
    assert document["openapi"].startswith("3.1")


def test_groups_and_calls_come_in_the_order_of_use(document):
    """The calls stand in the order in which a reader needs them: first submit, then read, then control."""
    paths = list(document["paths"])
    assert tuple(paths) == documentation._PATHS
    tags = [operation["tags"] for _, operation in operations(document)]
    assert list(dict.fromkeys(tag for [tag] in tags)) == [tag["name"] for tag in document["tags"]]
    assert [tag for [tag], before in zip(tags, [None, *tags], strict=False) if [tag] != before] == [
        tag["name"] for tag in document["tags"]
    ], "a group's calls are together"
    assert all(tag["description"] for tag in document["tags"])


def test_every_parameter_of_a_path_has_an_example(document):
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter["in"] != "path" or parameter["example"], name


def test_every_call_says_what_it_does_and_how_it_fails(document):
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        if name != "GET /livez":
            assert "503" in operation["responses"], name
        for parameter in operation.get("parameters", []):
            assert parameter.get("description") or parameter["schema"].get("description"), (name, parameter)
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_every_error_is_a_problem(document):
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and name != "GET /health":
                assert list(response["content"]) == ["application/problem+json"], (name, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_reference_leads_somewhere(document):
    schemas = document["components"]["schemas"]

    def references(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    used = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert used <= set(schemas)
    assert set(schemas) <= used


def test_every_list_says_what_is_in_it_so_that_generators_make_a_client_of_it(document):
    def lists(node, place):
        if isinstance(node, dict):
            kinds = node.get("type", ())
            if "array" in (kinds if isinstance(kinds, list) else [kinds]) and not isinstance(
                node.get("properties"), dict
            ):
                yield place, node
            for name, value in node.items():
                if name not in {"example", "examples", "default"}:
                    yield from lists(value, f"{place}/{name}")
        elif isinstance(node, list):
            for value in node:
                yield from lists(value, place)

    found = list(lists(document, "#"))
    assert "#/components/schemas/TaskDetail/properties/args" in dict(found)
    assert [place for place, node in found if "items" not in node and "prefixItems" not in node] == []


def test_every_body_and_answer_has_an_example_that_its_schema_accepts(document):
    seen = 0
    for name, operation in operations(document):
        contents = [response.get("content", {}) for response in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        for content in contents:
            for media in content.values():
                schema = {**media["schema"], "components": document["components"]}
                validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
                assert [error.message for error in validator.iter_errors(media["example"])] == [], name
                seen += 1
    assert seen > 2 * len(PATHS)


def test_the_users_examples_are_the_examples(document):
    submit = document["paths"]["/tasks/submit"]["post"]
    assert submit["requestBody"]["content"]["application/json"]["example"] == {
        "task_type": "clients.celery.example_tasks.process_document",
        "task_parameters": {"document_id": "doc-123", "options": {"format": "pdf", "quality": "high"}},
    }
    accepted = submit["responses"]["202"]["content"]["application/json"]["example"]
    assert accepted["message"] == "任务已成功提交"


def every_error():
    found, new = set(), {LedgerQError}
    while new:
        found |= new
        new = {child for error in new for child in error.__subclasses__()} - found
    return found


def test_every_error_has_a_code_of_its_own_and_a_sentence():
    assert InternalError in every_error()
    errors = {error for error in every_error() if error.__module__.startswith(("ledgerq_shared", "ledgerq_api"))}
    codes = [error.code for error in errors]
    assert len(set(codes)) == len(codes)
    for error in errors:
        assert error.__doc__
        assert error().detail


def test_a_submit_that_finds_its_key_taken_is_shown_as_that(document):
    for path in ("/tasks/submit", "/tasks/submit/batch"):
        [shown] = document["paths"][path]["post"]["responses"]["409"]["content"].values()
        assert shown["example"]["code"] == "duplicate_task"
