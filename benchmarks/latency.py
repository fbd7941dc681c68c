"""(d) An idle system: from the answer of a POST to the start of its task, and to its result at a long poll."""

from __future__ import annotations

import http.client
import json
import random
import time
from urllib.parse import urlsplit

from benchmarks import report
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.system import NOOP, System, running
from tests.support import wait

_TASKS = 150
#: Seconds between two tasks: everything is idle again.
_PAUSE = (0.05, 0.15)
_BODY = json.dumps({"task_type": NOOP, "task_parameters": {}})


def run(bed: Bed, options: Options) -> None:
    """One task at a time."""
    rows = {name: report.Row(name) for name in ("POST", "answered → started", "answered → seen by a long poll")}
    for _ in range(options.rounds):
        with running(bed) as system:
            _keep(rows["POST"], rows["answered → started"], *_starts(system))
            _keep_one(rows["answered → seen by a long poll"], _long_polls(system))
    report.show("latency of an idle system, one task at a time", "p50 ms", "", list(rows.values()))
    report.write("latency", "p50 ms", "", list(rows.values()))


def _starts(system: System) -> tuple[list[float], list[float]]:
    """Times of the POST, and from its answer to the start, in seconds. One machine: the ledger's clock is ours."""
    posts, answered = [], {}
    connection = _connect(system)
    for _ in range(_TASKS):
        time.sleep(random.uniform(*_PAUSE))
        begun = time.perf_counter()
        task_id = _submit(connection)
        answered[task_id] = time.time()
        posts.append(time.perf_counter() - begun)
    connection.close()
    wait.until(system.is_done, 60, what="everything is recorded")
    started = {
        str(row[0]): float(str(row[1])) for row in system.ask("SELECT id, extract(epoch FROM started_at) FROM task")
    }
    return posts, [started[task_id] - at for task_id, at in answered.items()]


def _long_polls(system: System) -> list[float]:
    seconds = []
    connection = _connect(system)
    for _ in range(_TASKS):
        time.sleep(random.uniform(*_PAUSE))
        task_id = _submit(connection)
        begun = time.perf_counter()
        connection.request("GET", f"/tasks/{task_id}/status", headers={"Prefer": "wait=30"})
        answer = json.loads(connection.getresponse().read())
        while answer["status"] != "SUCCESS":  # an answer that tells of STARTED
            connection.request("GET", f"/tasks/{task_id}/status", headers={"Prefer": "wait=30"})
            answer = json.loads(connection.getresponse().read())
        seconds.append(time.perf_counter() - begun)
    connection.close()
    return seconds


def _connect(system: System) -> http.client.HTTPConnection:
    parts = urlsplit(system.api.url)
    assert parts.hostname
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)


def _submit(connection: http.client.HTTPConnection) -> str:
    connection.request("POST", "/tasks/submit", _BODY, {"content-type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 202, body
    return str(json.loads(body)["task_id"])


def _keep(posts_row: report.Row, starts_row: report.Row, posts: list[float], starts: list[float]) -> None:
    _keep_one(posts_row, posts)
    _keep_one(starts_row, starts)


def _keep_one(row: report.Row, seconds: list[float]) -> None:
    ordered = sorted(second * 1e3 for second in seconds)
    row.rounds.append(round(ordered[len(ordered) // 2], 2))
    p99 = ordered[len(ordered) * 99 // 100]
    row.notes = f"p99 {p99:.1f} ms, longest {ordered[-1]:.1f} ms in the last round"
    print(f"{row.name}: p50 {row.rounds[-1]} ms, p99 {p99:.1f} ms", flush=True)
