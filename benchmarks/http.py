"""(b) HTTP: single submits, batch submits and status reads of one API process, beside a bare FastAPI POST and GET."""

from __future__ import annotations

import json
import subprocess
import sys
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
_BATCH = 1000
_BODY = {"task_type": "benchmarks.tasks.noop", "task_parameters": {}}

POST, GET = "bare FastAPI POST", "bare FastAPI GET"
KEYED_POST, KEYED_GET = "single submit, key and rate limit", "status, key and rate limit"
#: A limit that is counted and never reached.
_LIMITS = {"LEDGERQ_KEY_RATE": "1000000"}


def run(bed: Bed, options: Options) -> None:
    """Interleaved: in each round every row for some seconds, all on the same servers."""
    rows = {
        name: report.Row(name)
        for name in (POST, "single submit", KEYED_POST, GET, "status", "status, own id each", KEYED_GET, "batch submit")
    }
    for _ in range(options.rounds):
        with bed.stack(LEDGERQ_TASK_MODULES="benchmarks.tasks") as stack:
            stack.register()
            api, bare = stack.api(**_LIMITS), _bare(stack)
            database = stack.environment["DATABASE_URL"]
            _measure(bed, rows[POST], bare, [post(_BODY)])
            _measure(bed, rows["single submit"], api, [post(_BODY)])
            ids = [str(row[0]) for row in databases.rows(database, "SELECT id FROM task LIMIT 1000")]
            _measure(bed, rows[GET], bare, [_get(ids[0])])
            _measure(bed, rows["status"], api, [_get(ids[0])])
            _measure(bed, rows["status, own id each"], api, [_get(one) for one in ids])
            batch = post({"tasks": [_BODY] * _BATCH}, "/tasks/submit/batch")
            _measure(bed, rows["batch submit"], api, [batch], connections=2, each=_BATCH)
            _, key = keys.make(database, KeyScope.ADMIN)  # closes the API, which then has to look at it
            wait.until(lambda: http.request("GET", f"{api.url}/queues").status == 401, 10, what="a key is needed")  # noqa: B023 - called at once
            _measure(bed, rows[KEYED_POST], api, [post(_BODY, key=key)])
            _measure(bed, rows[KEYED_GET], api, [_get(ids[0], key=key)])
    by_base = ((POST, (POST, "single submit", KEYED_POST)), (GET, (GET, "status", "status, own id each", KEYED_GET)))
    for base, names in by_base:
        report.against(rows[base], [rows[name] for name in names])
    shown = list(rows.values())
    report.show(f"HTTP, {_CONNECTIONS} connections, one API process", "a second", "bare FastAPI", shown)
    report.write("http", "a second", "bare FastAPI", shown)


def _bare(stack: Stack) -> Running:
    port = free_port()
    running = stack.start("bare", "-m", "benchmarks.peers.bare_app", str(port))
    running.url = f"http://127.0.0.1:{port}"
    wait.until(lambda: http.answers(running.url + "/tasks/1/status"), 30, what="bare FastAPI is up")
    return running


def _measure(
    bed: Bed, row: report.Row, server: Running, requests: list[str], *, connections: int = _CONNECTIONS, each: int = 1
) -> None:
    parts = urlsplit(server.url)
    asked = {"host": parts.hostname, "port": parts.port, "connections": connections, "requests": requests}
    load({**asked, "seconds": 0.5})
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


def post(body: object, path: str = "/tasks/submit", *, key: str | None = None) -> str:
    """A complete HTTP/1.1 request."""
    text = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return f"{head}\r\n{_sent(key)}\r\n{text}"


def _get(task_id: str, *, key: str | None = None) -> str:
    return f"GET /tasks/{task_id}/status HTTP/1.1\r\nHost: bench\r\n{_sent(key)}\r\n"


def _sent(key: str | None) -> str:
    return "" if key is None else f"Authorization: Bearer {key}\r\n"
