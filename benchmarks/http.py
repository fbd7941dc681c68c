"""(b) HTTP: submits, batches, statuses and lists of one API process, beside a bare FastAPI and what teams build by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit

from benchmarks import cpu, report
from benchmarks.bed import ROOT, Bed
from benchmarks.options import Options
from ledgerq_api.auth.scopes import KeyScope
from ledgerq_shared.embedded.ports import free_port
from tests.support import databases, http, keys, wait
from tests.support.stack import Running, Stack

_CONNECTIONS = 64
_SECONDS = 4.0
#: More than any server answers: each request needs an Idempotency-Key of its own, or it would only find a task.
_MOST_A_SECOND = 15_000
_BODY: dict[str, object] = {"task_type": "benchmarks.tasks.noop", "task_parameters": {}}
#: A rate limit that is looked at and never reached.
_RATE = {"LEDGERQ_KEY_RATE": "1000000"}

POST, GET = "bare FastAPI POST", "bare FastAPI GET"
_KEYED = ("single submit, key and rate limit", "status, key and rate limit")
#: Its keys were used before, so it makes no task.
_REPEATED = "single submit, Idempotency-Key repeated"
_SUBMITS = ("single submit", "single submit, Idempotency-Key", _REPEATED, _KEYED[0])
_READS = ("status", _KEYED[1], "status, own id each", "list, first page", "list, by cursor", "list status=PENDING")
_BATCHES = {f"batch submit of {size:,}": size for size in (100, 1_000, 10_000)}
_HANDMADE = ("hand-made: submit", "hand-made: status")


def run(bed: Bed, options: Options) -> None:
    """Interleaved: in each round every row for some seconds, all on the same servers."""
    rows = {
        name: report.Row(name)
        for name in (POST, *_SUBMITS, _HANDMADE[0], GET, *_READS, _HANDMADE[1], *_BATCHES)
        if name in {POST, GET} or options.wants(name)
    }
    for _ in range(options.rounds):
        with bed.stack(LEDGERQ_TASK_MODULES="benchmarks.tasks") as stack:
            stack.register()
            _round(bed, stack, rows)
    for base, names in ((POST, (POST, *_SUBMITS, _HANDMADE[0])), (GET, (GET, *_READS, _HANDMADE[1]))):
        report.against(rows[base], [rows[name] for name in names if name in rows])
    shown = list(rows.values())
    report.show(
        f"HTTP, {_CONNECTIONS} connections, one API process; tasks of a batch", "a second", "bare FastAPI", shown
    )
    report.write("http", "a second", "bare FastAPI", shown)


def _round(bed: Bed, stack: Stack, rows: dict[str, report.Row]) -> None:
    def measure(name: str, server: Running, requests: list[str], **how: int) -> None:
        if name in rows:
            _measure(bed, rows[name], server, requests, **how)

    api, bare = stack.api(**_RATE), _peer(stack, "bare_app", "/tasks/1/status")
    posted = [post(_BODY)]
    measure(POST, bare, posted)
    measure("single submit", api, posted)
    keyed = [post(_BODY, headers={"Idempotency-Key": uuid.uuid4().hex}) for _ in range(int(_SECONDS * _MOST_A_SECOND))]
    measure("single submit, Idempotency-Key", api, keyed)
    measure(_REPEATED, api, keyed[:1000])
    http.request("POST", f"{api.url}/tasks/submit", _BODY)  # there is one at least
    ids = [str(row[0]) for row in databases.rows(stack.environment["DATABASE_URL"], "SELECT id FROM task LIMIT 1000")]
    measure(GET, bare, [_get(f"/tasks/{ids[0]}/status")])
    measure("status", api, [_get(f"/tasks/{ids[0]}/status")])
    measure("status, own id each", api, [_get(f"/tasks/{one}/status") for one in ids])
    measure("list, first page", api, [_get("/tasks/")])
    measure("list, by cursor", api, [_get(f"/tasks/?cursor={one}") for one in ids])
    measure("list status=PENDING", api, [_get("/tasks/?status=PENDING")])
    for name, size in _BATCHES.items():
        measure(name, api, [post({"tasks": [_BODY] * size}, "/tasks/submit/batch")], connections=2, each=size)
    if not rows.keys().isdisjoint(_HANDMADE):
        handmade = _peer(stack, "handmade_app", "/livez", BENCH_DATABASE=stack.environment["DATABASE_URL"])
        own = str(http.request("POST", f"{handmade.url}/tasks/submit", _BODY).json()["task_id"])
        measure("hand-made: submit", handmade, posted)
        measure("hand-made: status", handmade, [_get(f"/tasks/{own}/status")])
    if rows.keys().isdisjoint(_KEYED):
        return
    _, key = keys.make(
        stack.environment["DATABASE_URL"], KeyScope.ADMIN
    )  # closes the API, which then has to look at it
    wait.until(lambda: http.request("GET", f"{api.url}/queues").status == 401, 10, what="a key is needed")
    bearer = {"Authorization": f"Bearer {key}"}
    measure(_KEYED[0], api, [post(_BODY, headers=bearer)])
    measure(_KEYED[1], api, [_get(f"/tasks/{ids[0]}/status", headers=bearer)])


def _peer(stack: Stack, module: str, path: str, **environment: str) -> Running:
    port = free_port()
    running = stack.start(module, "-m", f"benchmarks.peers.{module}", str(port), **environment)
    running.url = f"http://127.0.0.1:{port}"
    wait.until(lambda: http.answers(running.url + path), 30, what=f"{module} is up")
    return running


def _measure(
    bed: Bed, row: report.Row, server: Running, requests: list[str], *, connections: int = _CONNECTIONS, each: int = 1
) -> None:
    parts = urlsplit(server.url)
    asked = {"host": parts.hostname, "port": parts.port, "connections": connections, "requests": requests}
    load({**asked, "seconds": 0.5, "requests": requests[::-1]})  # from the other end: an Idempotency-Key is new once
    before = cpu.spent({"server": server.pid, **bed.stores})
    found = load({**asked, "seconds": _SECONDS})
    after = cpu.spent({"server": server.pid, **bed.stores})
    assert not found["failed"], f"{row.name}: {found['failed']} requests failed"
    done = int(found["answered"]) * each
    row.rounds.append(round(done / found["seconds"], 1))
    row.cpu.append(cpu.per_task(before, after, done))
    row.notes = f"p50 {found['p50']} ms, p99 {found['p99']} ms in the last round"
    print(f"{row.name}: {row.rounds[-1]:,.0f}/s", flush=True)


def load(asked: dict[str, object]) -> dict[str, float]:
    """Run the load generator as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load"]
    done = subprocess.run(command, input=json.dumps(asked), cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def post(body: object, path: str = "/tasks/submit", *, headers: Mapping[str, str] | None = None) -> str:
    """A complete HTTP/1.1 request."""
    text = json.dumps(body)
    own = {"Content-Type": "application/json", "Content-Length": str(len(text)), **(headers or {})}
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{_lines(own)}\r\n{text}"


def _get(path: str, *, headers: Mapping[str, str] | None = None) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{_lines(headers)}\r\n"


def _lines(headers: Mapping[str, str] | None) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
