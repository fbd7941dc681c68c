"""(g) An idle system: transactions a second in PostgreSQL, and how much of a core each process takes."""

from __future__ import annotations

import time

from benchmarks import counting, cpu, report
from benchmarks.bed import Bed
from benchmarks.options import Options
from tests.support import databases, http, wait

_SECONDS = 20.0


def run(bed: Bed, options: Options) -> None:
    """API, worker with two processes, agent, maintenance; nothing to do after a first task."""
    transactions = report.Row("transactions/s")
    core = report.Row("% of a core, all processes")
    with bed.stack(LEDGERQ_TASK_MODULES="benchmarks.tasks") as stack:
        stack.register()
        api, worker, maintenance = stack.api(), stack.worker(), stack.maintenance()
        http.request("POST", f"{api.url}/tasks/submit", {"task_type": "benchmarks.tasks.noop"})
        wait.until(lambda: counting.total(bed.counts) == 1, 60, what="the first task has run")
        roots = {"api": api.pid, "worker": worker.pid, "maintenance": maintenance.pid, **bed.stores}
        url = stack.environment["DATABASE_URL"]
        time.sleep(12)  # an idle backend tells its last statistics after ten seconds
        for _ in range(options.rounds):
            before, begun, done = cpu.spent(roots), time.monotonic(), _transactions(url)
            time.sleep(_SECONDS)
            seconds = time.monotonic() - begun
            after = cpu.spent(roots)
            # our own question is one of them
            transactions.rounds.append(round((_transactions(url) - done - 1) / seconds, 2))
            core.rounds.append(round(sum(after[name] - before[name] for name in roots) / seconds * 100, 2))
            core.notes = ", ".join(f"{name} {(after[name] - before[name]) / seconds * 100:.2f}" for name in roots)
    report.show("idle", "figure", "", [transactions, core])
    report.write("idle", "figure", "", [transactions, core])


def _transactions(url: str) -> int:
    time.sleep(1.1)  # a backend tells its statistics at most once a second
    name = url.rpartition("/")[2]
    [(count,)] = databases.rows(url, "SELECT xact_commit FROM pg_stat_database WHERE datname = %s", (name,))
    return int(str(count))
