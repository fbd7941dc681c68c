"""(f) Memory: Redis with a backlog, and what API, worker and maintenance grow by over a million tasks."""

from __future__ import annotations

from urllib.parse import urlsplit

import psutil
import redis

from benchmarks import report
from benchmarks.bed import Bed
from benchmarks.http import load, post
from benchmarks.options import Options
from benchmarks.system import NOOP, System, running
from tests.support import wait

#: Tasks for each one of N: a million for the usual 100,000.
_PER_N = 10
_BATCH = 1000
_WARM_UP = 0.1


def run(bed: Bed, options: Options) -> None:
    """A backlog is made over HTTP while there is no worker, then run. One round: it is long."""
    number = options.number * _PER_N // _BATCH * _BATCH
    names = ("api", "worker", "maintenance")
    rows = {name: report.Row(f"{name}: growth of RSS, %") for name in names}
    redis_row = report.Row(f"Redis: MB more with {number:,} waiting")
    with running(bed, slots=0) as system:
        empty = _redis_bytes(bed)
        _submit(system, int(number * _WARM_UP))
        early = {"api": _rss(system.roots["api"])}
        _submit(system, number)
        redis_row.rounds.append(round((_redis_bytes(bed) - empty) / 1e6, 2))
        late = {"api": _rss(system.roots["api"])}
        system.start_worker(2)
        wait.until(
            lambda: _waiting(system) < number * (1 - _WARM_UP), 600, what="the worker has warmed up", interval=0.2
        )
        early |= {name: _rss(system.roots[name]) for name in names[1:]}
        wait.until(system.is_done, 1200, what="everything is recorded", interval=0.2)
        late |= {name: _rss(system.roots[name]) for name in names[1:]}
    for name, row in rows.items():
        row.rounds.append(round((late[name] / early[name] - 1) * 100, 1))
        row.notes = f"from {early[name] / 2**20:.0f} to {late[name] / 2**20:.0f} MiB over {number:,} tasks"
    shown = [redis_row, *rows.values()]
    report.show("memory", "figure", "", shown)
    report.write("memory", "figure", "", shown)


def _submit(system: System, until: int) -> None:
    """Batches, until the ledger has as many waiting."""
    parts = urlsplit(system.api.url)
    request = post({"tasks": [{"task_type": NOOP, "task_parameters": {}}] * _BATCH}, "/tasks/submit/batch")
    asked = {"host": parts.hostname, "port": parts.port, "connections": 2, "requests": [request], "seconds": 1.0}
    while _waiting(system) < until:
        found = load(asked)
        assert not found["failed"], f"{found['failed']} requests failed"


def _waiting(system: System) -> int:
    [(count,)] = system.ask("SELECT coalesce(sum(delta), 0) FROM task_count WHERE state = 'PENDING'")
    return int(str(count))


def _redis_bytes(bed: Bed) -> int:
    with redis.Redis.from_url(bed.redis_url) as client:
        return int(client.info("memory")["used_memory"])


def _rss(pid: int) -> int:
    root = psutil.Process(pid)
    return sum(int(process.memory_info().rss) for process in [root, *root.children(recursive=True)])
