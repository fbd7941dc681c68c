"""(c) Submits over HTTP, execution and recording, all at once: tasks/s from the first request to the last one recorded."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from benchmarks import cpu, report
from benchmarks.bed import Bed
from benchmarks.http import load, post
from benchmarks.options import Options
from benchmarks.system import NOOP, System, running
from tests.support import wait

_SECONDS = 5.0
_BATCH = 500
_ONE = {"task_type": NOOP, "task_parameters": {}}


def run(bed: Bed, options: Options) -> None:
    """Each row on a system of its own, round by round."""
    batches = report.Row(f"batches of {_BATCH}, 2 connections")
    singles = report.Row("single submits, 64 connections")
    for _ in range(options.rounds):
        for row, request, connections, each in (
            (batches, post({"tasks": [_ONE] * _BATCH}, "/tasks/submit/batch"), 2, _BATCH),
            (singles, post(_ONE), 64, 1),
        ):
            if not options.wants(row.name):
                continue
            with running(bed, warm_up=100) as system:
                _measure(system, row, request, connections, each)
    shown = [row for row in (batches, singles) if row.rounds]
    report.show("end to end: submitted over HTTP, run by two processes, recorded", "tasks/s", "", shown)
    report.write("end-to-end", "tasks/s", "", shown)


def _measure(system: System, row: report.Row, request: str, connections: int, each: int) -> None:
    parts = urlsplit(system.api.url)
    asked = {"host": parts.hostname, "port": parts.port, "connections": connections, "requests": [request]}
    load({**asked, "seconds": 1.0})  # claims and batches grow to their size
    wait.until(system.is_done, 120, what="the warm-up is recorded")
    before, begun = cpu.spent(system.roots), time.monotonic()
    found = load({**asked, "seconds": _SECONDS})
    submitted = time.monotonic() - begun
    wait.until(system.is_done, 300, what="everything is recorded", interval=0.002)
    seconds = time.monotonic() - begun
    assert not found["failed"], f"{row.name}: {found['failed']} requests failed"
    tasks = int(found["answered"]) * each
    row.rounds.append(round(tasks / seconds, 1))
    row.cpu.append(cpu.per_task(before, cpu.spent(system.roots), tasks))
    row.notes = (
        f"last round: accepted {tasks / submitted:,.0f}/s, POST p50 {found['p50']} ms, p99 {found['p99']} ms; "
        f"the last ones recorded {seconds - submitted:.1f} s later"
    )
    print(f"{row.name}: {row.rounds[-1]:,.0f}/s", flush=True)
