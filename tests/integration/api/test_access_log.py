"""The access log of a real API process: one line of JSON for each answer, which no client can forge; none by default."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from contextlib import closing

import pytest

from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.requests.access_log import NOT_ANSWERED, AccessLine, AccessLog, note_and_write_refusal
from ledgerq_shared.errors import RequestTimedOut
from tests.support import api as api_support
from tests.support import http, keys, wait
from tests.support.api import ANYTHING
from tests.support.sse import EventStream

FIELDS = set(AccessLine.__struct_fields__)


@pytest.fixture
def server(stack, database):
    """A real API process that writes its access log, at a level at which it says nothing else."""
    api_support.register(database, *api_support.CATALOGUE)
    return stack.api(LEDGERQ_API_ACCESS_LOG="true", LEDGERQ_LOG_LEVEL="critical", LEDGERQ_LOG_FORMAT="console")


def lines(server, *, but=("/readyz",)):
    """The lines so far; all of the log must be such lines."""
    found = [json.loads(text) for text in server.log().splitlines()]
    assert all(set(line) == FIELDS for line in found)
    return [line for line in found if line["route"] not in but]


def line_of(server, request_id):
    """The one line of that request, once it is there."""
    wait.until(lambda: any(line["request_id"] == request_id for line in lines(server)), 20, what=server.log)
    [line] = [line for line in lines(server) if line["request_id"] == request_id]
    return line


def ask(server, method, path, body=None, **headers):
    """The answer's status, and the line of the request."""
    answer = http.request(method, server.url + path, body, headers=headers)
    return answer.status, line_of(server, answer.headers["x-request-id"])


def connect(server):
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    return closing(connection)


def send_raw(server, data):
    """Send bytes, and read until the server closes."""
    received = b""
    with connect(server) as connection:
        connection.sendall(data)
        while chunk := connection.recv(65536):
            received += chunk
    return received


def test_every_answer_has_a_line_with_the_routes_template(server):
    task_id = http.request("POST", f"{server.url}/tasks/submit", {"task_type": ANYTHING}).json()["task_id"]
    asked = [
        ("POST", "/tasks/submit", {"task_type": ANYTHING}, 202, "/tasks/submit"),
        ("POST", "/tasks/submit", b"{", 400, "/tasks/submit"),
        ("DELETE", "/tasks/submit", None, 405, "/tasks/submit"),
        ("POST", "/tasks/submit/batch", {"tasks": [{"task_type": ANYTHING}]}, 202, "/tasks/submit/batch"),
        ("GET", f"/tasks/{task_id}/status", None, 200, "/tasks/{task_id}/status"),
        ("HEAD", f"/tasks/{task_id}/status", None, 200, "/tasks/{task_id}/status"),
        ("GET", f"/tasks/{task_id}", None, 200, "/tasks/{task_id}"),
        ("HEAD", f"/tasks/{task_id}", None, 200, "/tasks/{task_id}"),
        ("DELETE", f"/tasks/{task_id}", None, 405, "/tasks/{task_id}"),
        ("GET", "/tasks/?page_size=many", None, 422, "/tasks/"),
        ("GET", "/tasks/a%2Fb%0Ac/status", None, 404, "/tasks/{task_id}/status"),
        ("GET", "/queues", None, 200, "/queues"),
        ("PUT", "/queues/mail", {"paused": True}, 200, "/queues/{name}"),
        ("POST", "/queues/mail/pause", {}, 200, "/queues/{name}/pause"),
        ("GET", "/docs", None, 200, "/docs"),
        ("GET", "/", None, 307, "/"),
        ("GET", "/metrics", None, 200, "/metrics"),
        ("GET", "/no/such%20thing", None, 404, "unmatched"),
    ]
    for method, path, body, status, route in asked:
        answered, line = ask(server, method, path, body)
        assert (answered, line["status"], line["route"], line["method"]) == (status, status, route, method), path
        assert (line["address"], line["key_id"], line["event"]) == ("127.0.0.1", None, "api.request")
        assert line["duration_seconds"] >= 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["timestamp"])


def test_refusals_at_the_gate_name_the_key_and_the_template(server, database):
    key_id, key = keys.make(database, KeyScope.SUBMIT)
    wait.until(lambda: http.request("GET", f"{server.url}/queues").status == 401, 30, what="keys are needed")
    status, line = ask(server, "GET", "/tasks/abc/events", **keys.bearer("lq_" + "x" * 43))
    assert (status, line["status"], line["route"], line["key_id"]) == (401, 401, "/tasks/{task_id}/events", None)
    status, line = ask(server, "POST", "/queues/a/b/resume", **keys.bearer(key))
    assert (status, line["status"], line["route"], line["key_id"]) == (403, 403, "/queues/{name}/resume", key_id)
    status, line = ask(server, "POST", "/tasks/submit", {"task_type": ANYTHING}, **keys.bearer(key))
    assert (status, line["status"], line["route"], line["key_id"]) == (202, 202, "/tasks/submit", key_id)
    assert key not in server.log()


def test_a_stream_and_a_client_that_hangs_up_have_their_lines_at_their_end(server):
    task_id = http.request("POST", f"{server.url}/tasks/submit", {"task_type": ANYTHING}).json()["task_id"]

    def of(request_id):
        return [line for line in lines(server) if line["request_id"] == request_id]

    with EventStream(f"{server.url}/tasks/{task_id}/stream", sent={"X-Request-ID": "stream-1"}) as stream:
        stream.until("submitted")
        assert of("stream-1") == []
    line = line_of(server, "stream-1")
    assert (line["status"], line["route"]) == (200, "/tasks/{task_id}/stream")
    with connect(server) as connection:
        connection.sendall(
            f"GET /tasks/{task_id}/status HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait=60\r\nX-Request-ID: poll-1\r\n\r\n"
            f"".encode()
        )
        waiting = "ledgerq_api_requests_in_progress 2"
        wait.until(lambda: waiting in http.request("GET", f"{server.url}/metrics").body.decode(), 20)
        assert of("poll-1") == []
    line = line_of(server, "poll-1")
    assert (line["status"], line["route"]) == (NOT_ANSWERED, "/tasks/{task_id}/status")


def test_what_the_front_door_refuses_has_one_line(server):
    refused = send_raw(server, b"\x16\x03\x01 hello\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 400 ")
    assert send_raw(server, b"GET /livez?" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(
        b"HTTP/1.1 414 "
    )
    wait.until(lambda: len(lines(server)) >= 2, 20)
    assert [(line["status"], line["route"], line["request_id"], line["address"]) for line in lines(server)] == [
        (400, None, None, "127.0.0.1"),
        (414, None, None, "127.0.0.1"),
    ]


def test_a_body_that_the_front_door_refuses_in_its_midst_has_one_line(server):
    """The application is reading it already; the line has the status that the client got."""
    head = (
        "POST /tasks/submit/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "X-Request-ID: midst-1\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert send_raw(server, head.encode() + b"no length\r\n").startswith(b"HTTP/1.1 400 ")
    line = line_of(server, "midst-1")
    assert (line["status"], line["route"], line["method"]) == (400, "/tasks/submit/batch", "POST")
    assert len(lines(server)) == 1


def test_a_timed_out_body_and_a_full_house_have_the_status_that_the_client_got():
    """Without waiting a minute for it: what the front door notes is what the line has."""
    state: dict[str, object] = {}
    note_and_write_refusal(RequestTimedOut(), "127.0.0.1", {"state": state})
    assert list(state.values()) == [408]


def test_no_request_can_forge_a_line(server):
    forged = '{"event":"api.request","status":200,"address":"192.0.2.1"}'
    escaped = "".join(f"%{byte:02X}" for byte in f"\n{forged}\n".encode())
    hostile = [
        f"GET /tasks/{escaped}/status HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        f"GET /{escaped}?{escaped} HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: a{forged}\r\n",
        "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: a\xe2\x80\xa8b\r\n",
        "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n",
        f"GET /livez HTTP/1.1\n{forged}\r\nHost: 127.0.0.1\r\n",
        f"{forged}\n{forged}\r\n",
        f"GET\x00{forged} /livez HTTP/1.1\r\n",
    ]
    for head in hostile:
        assert send_raw(server, head.encode("latin-1") + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 ")
    wait.until(lambda: len(lines(server)) >= len(hostile), 20, what=server.log)
    found = lines(server)
    assert len(found) == len(hostile), "one each"
    assert {line["address"] for line in found} == {"127.0.0.1"}
    assert all(
        line["request_id"] is None or re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", line["request_id"]) for line in found
    )
    assert "192.0.2.1" not in server.log()
    assert all(line.isascii() for line in server.log().splitlines())


def test_behind_a_proxy_the_address_is_the_clients(stack, database):
    server = stack.api(LEDGERQ_API_ACCESS_LOG="true", LEDGERQ_TRUSTED_PROXIES="127.0.0.1", LEDGERQ_LOG_LEVEL="critical")
    _, line = ask(server, "GET", "/livez", **{"X-Forwarded-For": "192.0.2.1, 198.51.100.7"})
    assert line["address"] == "198.51.100.7"


def test_an_error_of_ours_is_a_500_in_the_log(capsys):
    async def broken(scope, receive, send):
        raise ZeroDivisionError

    scope = {"type": "http", "request_id": "r-1", "method": "GET", "path": "/tasks/x", "client": None}
    with pytest.raises(ZeroDivisionError):
        asyncio.run(AccessLog(broken)(scope, None, None))
    line = json.loads(capsys.readouterr().err)
    assert (line["status"], line["route"], line["address"]) == (500, "/tasks/{task_id}", None)


def test_open_streams_have_their_lines_when_the_server_ends(server):
    task_id = http.request("POST", f"{server.url}/tasks/submit", {"task_type": ANYTHING}).json()["task_id"]
    with EventStream(f"{server.url}/tasks/{task_id}/stream", sent={"X-Request-ID": "stream-1"}) as stream:
        stream.until("submitted")
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    assert [line["status"] for line in lines(server) if line["request_id"] == "stream-1"] == [200]


def test_by_default_there_is_no_access_log_and_nothing_of_it_in_the_way(stack, database):
    server = stack.api(LEDGERQ_LOG_FORMAT="json")
    assert http.request("GET", f"{server.url}/livez").status == 200
    send_raw(server, b"nonsense\r\n\r\n")
    server.stop()
    assert "api.request" not in server.log()
