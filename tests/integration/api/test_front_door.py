"""What connections may cost: heads, bodies, time and memory have bounds, and whoever is refused reads why."""

from __future__ import annotations

import json
import socket
from contextlib import closing, suppress

import psutil
import pytest

from tests.support import api as api_support
from tests.support import http, wait
from tests.support.api import ANYTHING

MIB = 1024 * 1024


@pytest.fixture
def server(stack, database):
    """A real API process: the address of its socket, and its process."""
    api_support.register(database, *api_support.CATALOGUE)
    return stack.api()


def connect(server):
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.settimeout(30)
    return closing(connection)


def read_answer(connection):
    """Status and problem of the one answer that comes before the connection is closed."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body), head.decode().lower()


def send_on(connection, data, *, most):
    """Send until the server has had enough of it."""
    sent = 0
    with suppress(ConnectionError, TimeoutError):
        while sent < most:
            connection.sendall(data)
            sent += len(data)
    return sent


@pytest.mark.parametrize(
    ("begin", "status", "code"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Endless: ", 431, "head_too_large"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", 431, "head_too_large"),
        (b"GET /", 414, "target_too_long"),
        (b"GET /tasks/?tag=", 414, "target_too_long"),
    ],
    ids=["a header's value", "many headers", "a path", "a query"],
)
def test_a_head_that_never_ends_is_refused_before_it_costs_memory(server, begin, status, code):
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    piece = b"x-a: b\r\n" * 8192 if begin.endswith(b"\r\n") else b"x" * 65536
    with connect(server) as connection:
        connection.sendall(begin)
        send_on(connection, piece, most=64 * MIB)
        try:
            answer = read_answer(connection)
        except ConnectionError:  # it had closed while we sent
            answer = None
    assert process.memory_info().rss - before < 16 * MIB
    assert http.request("GET", f"{server.url}/livez").status == 200
    if answer:
        assert (answer[0], answer[1]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("target", "headers", "status", "code"),
    [
        ("/livez?" + "x" * 20_000, "", 414, "target_too_long"),
        ("/livez", f"x-long: {'y' * 70_000}\r\n", 431, "head_too_large"),
        ("/livez", "x-one: 1\r\n" * 8000, 431, "head_too_large"),
    ],
)
def test_a_head_that_is_too_large_is_answered(server, target, headers, status, code):
    with connect(server) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        answered, problem, head = read_answer(connection)
    assert (answered, problem["code"], problem["status"]) == (status, code, status)
    assert "application/problem+json" in head
    assert "connection: close" in head


def test_what_is_no_http_is_answered_with_a_problem(server):
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
        status, problem, _ = read_answer(connection)
    assert (status, problem["code"]) == (400, "not_http")


def test_a_head_that_does_not_arrive_in_time_ends(server):
    with connect(server) as slow, connect(server) as silent:
        slow.sendall(b"GET /livez HTTP/1.1\r\nHo")
        status, problem, _ = read_answer(slow)
        assert (status, problem["code"]) == (408, "request_timed_out")
        assert silent.recv(100) == b""  # said nothing, so it is told nothing


@pytest.mark.parametrize(
    ("declared", "status", "code"),
    [("application/json", 413, "body_too_large"), ("text/plain", 415, "unsupported_media_type")],
)
@pytest.mark.parametrize("closes", [False, True], ids=["keep-alive", "close"])
def test_a_body_that_is_refused_is_read_to_its_end_and_the_answer_arrives(server, declared, status, code, closes):
    size = 12 * MIB
    head = f"POST /tasks/submit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {declared}\r\nContent-Length: {size}\r\n"
    with connect(server) as connection:
        connection.sendall((head + ("Connection: close\r\n" if closes else "") + "\r\n").encode())
        connection.sendall(b" " * 65536)
        begun = connection.recv(16)  # the answer is there, and we go on sending
        for _ in range(size // 65536 - 1):
            connection.sendall(b" " * 65536)
        if not closes:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        received = begun
        while chunk := connection.recv(65536):
            received += chunk
    assert int(received.split()[1]) == status
    assert code.encode() in received
    assert (b'{"status":"alive"}' in received) is not closes


def test_bodies_of_all_requests_together_are_bounded_and_nobody_is_hurt(server):
    """Fifty stalled batch bodies of 15 MiB: most are refused, the memory stays, and an honest submit goes through."""
    process = psutil.Process(server.pid)
    head = (
        "POST /tasks/submit/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {16 * MIB}\r\n\r\n"
    ).encode()
    open_ = []
    for _ in range(50):
        connection = connect(server).thing
        open_.append(connection)
        connection.sendall(head)
        send_on(connection, b" " * MIB, most=15 * MIB)
        assert http.request("POST", f"{server.url}/tasks/submit", {"task_type": ANYTHING}).status == 202
    assert process.memory_info().rss < 400 * MIB
    assert sum(map(is_told_that_there_is_no_room, open_)) >= 40
    for connection in open_:
        connection.close()

    def is_accepted():
        return http.request("POST", f"{server.url}/tasks/submit", {"task_type": ANYTHING}).status == 202

    wait.until(is_accepted, 30, what="a submit is accepted once the others have gone")
    metric = 'ledgerq_api_refused_total{code="server_busy"}'
    assert metric in http.request("GET", f"{server.url}/metrics").body.decode()


def is_told_that_there_is_no_room(connection):
    connection.setblocking(False)
    with suppress(BlockingIOError, ConnectionError):
        return b"server_busy" in connection.recv(4096)
    return False


def test_bodies_that_stall_just_below_the_bound_keep_nobody_out(server):
    """Whoever adds to what is held until the last byte is taken: the largest of them gives way to an honest submit."""
    head = (
        "POST /tasks/submit/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {16 * MIB}\r\n\r\n"
    ).encode()
    sizes = [15 * MIB] * 3 + [3 * MIB - 16]
    open_ = [connect(server).thing for _ in sizes]
    for connection, size in zip(open_, sizes, strict=True):
        connection.sendall(head + b" " * size)
    for _ in range(300):  # between two answers the server reads what others have sent
        assert http.answers(f"{server.url}/livez")
    body = {"task_type": ANYTHING, "task_parameters": {"text": "x" * 100_000}}

    def one_gave_way():
        assert http.request("POST", f"{server.url}/tasks/submit", body).status == 202
        return any(map(is_told_that_there_is_no_room, open_))

    wait.until(one_gave_way, 30)
    for connection in open_:
        connection.close()


def test_readers_that_read_a_little_now_and_then_keep_nobody_out(server):
    """Their answers are more than may be held, and each reads often enough not to be taken for gone."""
    fat = {"task_type": ANYTHING, "task_parameters": {"text": "x" * 1_000_000}}
    task_id = http.request("POST", f"{server.url}/tasks/submit", fat).json()["task_id"]
    process = psutil.Process(server.pid)
    open_ = []
    for _ in range(120):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        # The kernel takes several of these answers, whatever it is told; the rest lies in the process.
        connection.sendall(f"GET /tasks/{task_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 10)
        open_.append(connection)
        assert connection.recv(1) == b"H", "its own answer began"
        assert http.answers(f"{server.url}/livez")
        assert http.request("POST", f"{server.url}/tasks/submit", {"task_type": ANYTHING}).status == 202
    assert process.memory_info().rss < 400 * MIB
    for connection in open_:
        connection.close()


def test_who_hangs_up_with_requests_outstanding_leaves_no_error(server):
    one = b"GET /tasks/?page_size=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for _ in range(20):
        with connect(server) as connection:
            connection.sendall(one * 50)
            connection.recv(1)
    assert http.answers(f"{server.url}/readyz")
    assert "api.request.failed" not in server.log()


def test_requests_that_follow_one_another_in_one_piece_are_all_answered(server):
    one = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    many = 4000  # more than the head of one request may have
    with connect(server) as connection:
        connection.sendall(one * many)
        received = b""
        while received.count(b"alive") < many:
            chunk = connection.recv(1 << 20)
            assert chunk, received[-300:]
            received += chunk


def test_one_connection_more_than_allowed_is_told_so(stack, database):
    server = stack.api(LEDGERQ_API_CONNECTIONS="10")
    open_ = [connect(server).thing for _ in range(10)]
    with connect(server) as late:
        status, problem, head = read_answer(late)
    assert (status, problem["code"]) == (503, "server_busy")
    assert "retry-after" in head
    for connection in open_:
        connection.close()
    wait.until(lambda: http.answers(f"{server.url}/livez"), 20)


def test_the_monitor_has_the_same_door(stack):
    monitor = stack.monitor()
    with connect(monitor) as connection:
        connection.sendall(f"GET /livez HTTP/1.1\r\nHost: x\r\nx-long: {'y' * 70_000}\r\n\r\n".encode())
        status, problem, _ = read_answer(connection)
    assert (status, problem["code"]) == (431, "head_too_large")


def test_a_body_in_an_encoding_is_refused_by_its_name(server):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = http.request("POST", f"{server.url}/tasks/submit", b"\x1f\x8b\x08", headers=headers)
    assert answer.status == 415
    assert "gzip" in answer.json()["detail"]


def _submitted(server):
    return http.request("POST", f"{server.url}/tasks/submit", {"task_type": ANYTHING}).json()["task_id"]


def test_http_1_0_gets_no_chunks(server):
    task_id = _submitted(server)
    with connect(server) as connection:
        connection.sendall(f"GET /tasks/{task_id}/stream HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        received = b""
        while b"submitted" not in received:
            received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"retry: 1000\n\nid: 1\n")
    with connect(server) as connection:
        connection.sendall(f"GET /tasks/{task_id}/status HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert json.loads(received.partition(b"\r\n\r\n")[2])["status"] == "PENDING"


def test_a_long_poll_whose_client_has_gone_ends_at_once(server):
    task_id = _submitted(server)

    def in_progress():
        lines = http.request("GET", f"{server.url}/metrics").body.decode().splitlines()
        return next(line for line in lines if line.startswith("ledgerq_api_requests_in_progress ")).split()[1]

    with connect(server) as connection:
        connection.sendall(
            f"GET /tasks/{task_id}/status HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait=60\r\n\r\n".encode()
        )
        wait.until(lambda: in_progress() == "2.0", 20)
    wait.until(lambda: in_progress() == "1.0", 20, what="only the request that asks is in progress")
