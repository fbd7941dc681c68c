"""Whatever a client sends, the API answers as its own document says, and never with a 5xx."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis
import pytest
import schemathesis
from schemathesis import checks

from tests.support import api as api_support

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.api import Api

CALLS = [
    "POST /tasks/submit",
    "POST /tasks/submit/batch",
    "GET /tasks/",
    "GET /tasks/{task_id}",
    "GET /tasks/{task_id}/status",
    "GET /tasks/{task_id}/events",
    "POST /tasks/{task_id}/cancel",
    "POST /tasks/{task_id}/retry",
    "POST /tasks/{task_id}/rerun",
    "GET /tasks/{task_id}/explain",
    "GET /task-types",
    "GET /task-types/{name}",
    "GET /queues",
    "PUT /queues/{name}",
    "POST /queues/{name}/pause",
    "POST /queues/{name}/resume",
    "GET /workers",
    "GET /scaling",
    "GET /livez",
    "GET /readyz",
    "GET /health",
]

#: Calls that take nothing: there is no bad one.
WITHOUT_INPUT = {"GET /task-types", "GET /workers", "GET /livez", "GET /readyz", "GET /health"}

#: Any text may be the name of a task type, or Celery's id of a task: there is no bad one.
ANY_TEXT = {"GET /task-types/{name}", "GET /tasks/{task_id}", "GET /tasks/{task_id}/status"}

SETTINGS = hypothesis.settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture
def api(database: str, redis_database: str) -> Iterator[Api]:
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database) as running:
        running.submit()
        yield running


@pytest.mark.parametrize(
    ("mode", "call"),
    [("positive", call) for call in CALLS]
    + [("negative", call) for call in CALLS if call not in ANY_TEXT | WITHOUT_INPUT],
)
def test_a_call_answers_as_documented(api, call, mode):
    method, path = call.split(" ")
    operation = schemathesis.openapi.from_url(f"{api.url}/openapi.json")[path][method]
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @SETTINGS
    @hypothesis.given(case=cases)
    def answers(case):
        # A wait would only make the test slow.
        (case.headers or {}).pop("Prefer", None)
        response = case.call()
        assert response.status_code < 500, (response.status_code, response.text)
        case.validate_response(
            response,
            checks=[
                checks.CHECKS.get_one(name)
                for name in ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
            ],
        )

    answers()
