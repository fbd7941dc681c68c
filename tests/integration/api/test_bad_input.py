"""Whatever is sent to whatever address: a 4xx that is a problem document, nothing half-written, and the API goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support import databases, ledger_checks
from tests.support.api import ANYTHING, PROCESS_DOCUMENT

if TYPE_CHECKING:
    from tests.support.api import Api

_ID = "00000000-0000-7000-8000-000000000001"

#: Every call that takes a body, with a member of the body that may hold anything.
WITH_BODY = {
    "/tasks/submit": '{"task_type": "demo.anything", "task_parameters": {"x": %s}, "priority": "high"}',
    "/tasks/submit/batch": '{"tasks": [{"task_type": "demo.anything", "task_parameters": {}}, {"task_parameters": %s}]}',
    f"/tasks/{_ID}/cancel": '{"reason": %s}',
    f"/tasks/{_ID}/retry": '{"reason": %s}',
    f"/tasks/{_ID}/rerun": '{"task_parameters": %s}',
}

#: JSON texts that are hard to read, to keep or to believe.
HARD = {
    "depth": "[" * 100_000 + "]" * 100_000,
    "objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "nul": '"a\\u0000b"',
    "surrogate": '"\\ud800"',
    "huge integer": "9" * 5000,
    "huge exponent": "1e999999",
    "nan": "NaN",
    "unfinished": '"',
    "10 MiB": json.dumps("x" * 10 * 1024 * 1024),
}

#: Whole bodies that are no JSON object.
WHOLE = [
    b"",
    b"null",
    b"[]",
    b"42",
    b'"text"',
    b"{",
    b"\xff\xfe\x00",
    b"\x00" * 1000,
    b'{"a":1}{"b":2}',
    b"\xed\xa0\x80",
]

TEXTS = {
    "nul": "a%00b", "surrogate": "%ED%A0%80", "invalid utf-8": "%FF%FE", "traversal": "..%2F..%2Fetc%2Fpasswd",
    "long": "x" * 5000, "sql": "'%3B%20DROP%20TABLE%20task%3B--", "format": "%25s%25(x)s", "minus": "-1",
}  # fmt: skip

#: Every call without a body that has a name or an id in its address.
ADDRESSES = [
    ("GET", "/tasks/{}"), ("GET", "/tasks/{}/status"), ("GET", "/tasks/{}/events"), ("GET", "/tasks/{}/stream"),
    ("GET", "/tasks/{}/explain"), ("POST", "/tasks/{}/cancel"), ("POST", "/tasks/{}/retry"), ("POST", "/tasks/{}/rerun"),
    ("GET", "/task-types/{}"), ("POST", "/queues/{}/pause"), ("POST", "/queues/{}/resume"),
]  # fmt: skip

#: Queries whose values are no use.
QUERIES = [
    "/tasks/?limit=99999999999999999999", "/tasks/?limit=-1", "/tasks/?limit=x", "/tasks/?cursor=%00",
    "/tasks/?cursor=%FF", "/tasks/?status=%00", "/tasks/?status=NOPE", "/tasks/?submitted_after=yesterday",
    "/tasks/?nothing_known=1", f"/tasks/{_ID}/events?after=-1", f"/tasks/{_ID}/events?limit=x",
]  # fmt: skip


def _is_refused(answer) -> None:
    assert 400 <= answer.status < 500, (answer.status, answer.body[:500])
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.headers
    problem = answer.json()
    assert problem["status"] == answer.status
    assert "Traceback" not in answer.body.decode()


@pytest.fixture(autouse=True)
def nothing_is_written(api: Api):
    """Every test here leaves an empty, sound ledger behind, and an API that works."""
    yield
    assert databases.rows(api.database_url, "SELECT count(*) FROM task") == [(0,)]
    assert databases.rows(api.database_url, "SELECT count(*) FROM idempotency") == [(0,)]
    api.submit()
    ledger_checks.assert_sound(api.database_url)


@pytest.mark.parametrize("path", WITH_BODY)
def test_a_body_that_is_hard_to_read_is_refused_and_nothing_is_written(api: Api, path: str):
    for text in HARD.values():
        _is_refused(api.post(path, (WITH_BODY[path] % text).encode(), headers={"idempotency-key": "k"}))


@pytest.mark.parametrize("path", [path for path in WITH_BODY if "submit" in path])
def test_a_body_that_is_no_object_is_refused(api: Api, path: str):
    for body in WHOLE:
        _is_refused(api.post(path, body))


@pytest.mark.parametrize(
    "field",
    [
        "task_type", "task_parameters", "queue", "priority", "max_retries", "countdown", "eta", "expires", "time_limit",
        "soft_time_limit", "tags", "unique_key", "unique_policy", "unique_ttl", "on_worker_lost",
    ],
)  # fmt: skip
def test_a_field_of_a_wrong_type_is_refused(api: Api, field: str):
    for value in ({"a": [1]} if field != "task_parameters" else [1], True, -(10**30), 1e308, [[[]]]):
        _is_refused(api.post("/tasks/submit", {"task_type": ANYTHING, "task_parameters": {}, field: value}))


@pytest.mark.parametrize("path", [path for path in WITH_BODY if "submit" not in path])
def test_a_change_of_a_task_that_is_not_there_is_refused_whatever_its_body(api: Api, path: str):
    for body in WHOLE:
        _is_refused(api.post(path, body))


@pytest.mark.parametrize("name", TEXTS)
def test_an_address_with_a_hostile_name_is_refused(api: Api, name: str):
    for method, address in ADDRESSES:
        path = address.format(TEXTS[name])
        _is_refused(api.get(path) if method == "GET" else api.post(path, {}))


@pytest.mark.parametrize("path", QUERIES)
def test_a_query_that_makes_no_sense_is_refused(api: Api, path: str):
    _is_refused(api.get(path))


def test_parameters_that_the_schema_does_not_allow_are_refused(api: Api):
    for value in (None, 1, ["../../etc/passwd"], {"$ref": "file:///etc/passwd"}):
        _is_refused(
            api.post("/tasks/submit", {"task_type": PROCESS_DOCUMENT, "task_parameters": {"document_id": value}})
        )
