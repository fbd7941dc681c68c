"""Every example of `/openapi.json`, sent as it is to a stack with the example tasks, is answered as it says there."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import jsonschema_rs
import pytest

from tests.support import http, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

Call = tuple[str, str, dict[str, Any]]


@pytest.fixture
def api(stack):
    """A real API beside the registered example tasks; no worker yet."""
    stack.register()
    return stack.api()


@pytest.fixture
def document(api):
    return http.request("GET", f"{api.url}/openapi.json").json()


def calls(document: dict[str, Any]) -> Iterator[Call]:
    """All of them, in the document's order."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def address(path: str, operation: dict[str, Any], **known: str) -> str:
    """The path with its parameters' examples, and the query with examples and defaults, as Swagger UI fills them in."""
    query = {}
    for parameter in operation.get("parameters", []):
        name, place = parameter["name"], parameter["in"]
        if place == "path":
            path = path.replace(f"{{{name}}}", quote(known.get(name) or parameter["example"], safe=""))
        elif place == "query" and (value := parameter.get("example", parameter["schema"].get("default"))) is not None:
            query[name] = value
        else:
            assert not parameter.get("required"), f"{path}: nobody knows what to send as {name}"
    return path + (f"?{urlencode(query)}" if query else "")


def send(api: Any, call: Call, **known: str) -> tuple[int, str, bytes]:
    """Status, media type and body; of a stream only its begin."""
    method, path, operation = call
    target = address(path, operation, **known)
    if path.endswith("/stream"):
        return begin_of_stream(api.url, target)
    media = operation.get("requestBody", {}).get("content", {}).get("application/json")
    answer = http.request(method, api.url + target, media["example"] if media else None)
    return answer.status, answer.headers.get("content-type", ""), answer.body


def begin_of_stream(url: str, target: str) -> tuple[int, str, bytes]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        received = b""
        while not is_enough(received):
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    [media] = [line.partition(b": ")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-type")]
    return int(head.split()[1]), media.decode(), body


def is_enough(received: bytes) -> bool:
    """Whether the first event is there; or, where there is no stream, the whole answer, which may come in two pieces."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end or b" 200 " in head[:20]:
        return b"event: " in body
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length, head
    return len(body) >= int(length[1])


def check(document: dict[str, Any], call: Call, status: int, media: str, body: bytes) -> None:
    """The answer is one of those that the document has for this call, in its form."""
    method, path, operation = call
    name = f"{method} {path}: {status} {body[:300]!r}"
    documented = operation["responses"].get(str(status))
    assert documented, name
    [(expected, content)] = documented["content"].items()
    assert media.startswith(expected), name
    if expected != "text/event-stream":
        validator = jsonschema_rs.Draft202012Validator({**content["schema"], "components": document["components"]})
        assert [error.message for error in validator.iter_errors(json.loads(body))] == [], name


def test_every_example_gets_an_answer_that_is_documented(api, document):
    for call in calls(document):
        status, media, body = send(api, call)
        check(document, call, status, media, body)
        assert status < 300 or (status == 404 and "{task_id}" in call[1]), (call[:2], body)


def test_examples_sent_in_the_documents_order_all_succeed_and_their_tasks_run(api, document, stack):
    """As on the page: a call about a task is about the one that was submitted last. No worker is there at first."""
    submitted, known = [], {}
    for call in calls(document):
        status, media, body = send(api, call, **known)
        check(document, call, status, media, body)
        assert status < 300, (call[:2], body)
        if call[1].endswith(("/submit", "/rerun", "/batch")):
            answer = json.loads(body)
            ids = [one["task_id"] for one in answer.get("tasks", [answer])]
            submitted += ids
            known = {"task_id": ids[0]}
    assert len(submitted) == 4
    stack.worker()
    for task_id in submitted:
        wait.until(
            lambda task_id=task_id: (
                http.request("GET", f"{api.url}/tasks/{task_id}/status").json()["status"] == "SUCCESS"
            ),
            60,
            what=f"{task_id} succeeds",
        )
