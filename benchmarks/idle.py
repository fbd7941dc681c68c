"""(g) An idle system: transactions a second in PostgreSQL, and how much of a core each process takes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks import counting, cpu, report
from benchmarks.bed import Bed
from benchmarks.options import Options
from tests.support import databases, http, wait

#: Long enough for the kernel's hundredths of a second, in which each process's time is told.
_SECONDS = 60.0
#: An idle backend tells its last statistics after ten seconds.
_SETTLED_AFTER = 12.0


def run(bed: Bed, options: Options) -> None:
    """API, worker with two processes, agent, maintenance; nothing to do after a first task."""
    transactions = report.Row("transactions/s")
    core = report.Row("% of a core, all processes")
    alone = report.Row("of this, the stores with nobody connected")
    each = {name: report.Row(f"% of a core, {name}") for name in ("api", "worker", "maintenance", *bed.stores)}
    spent = _shares(bed.stores)
    alone.rounds.append(round(sum(spent.values()), 2))
    alone.notes = ", ".join(f"{name} {share:.2f}" for name, share in spent.items())
    with bed.stack(LEDGERQ_TASK_MODULES="benchmarks.tasks") as stack:
        stack.register()
        api, worker, maintenance = stack.api(), stack.worker(), stack.maintenance()
        http.request("POST", f"{api.url}/tasks/submit", {"task_type": "benchmarks.tasks.noop"})
        wait.until(lambda: counting.total(bed.counts) == 1, 60, what="the first task has run")
        roots = {"api": api.pid, "worker": worker.pid, "maintenance": maintenance.pid, **bed.stores}
        url = stack.environment["DATABASE_URL"]
        time.sleep(_SETTLED_AFTER)
        for _ in range(options.rounds):
            done, begun = _transactions(url), time.monotonic()
            shares = _shares(roots)
            # our own question is one of them
            transactions.rounds.append(round((_transactions(url) - done - 1) / (time.monotonic() - begun), 2))
            core.rounds.append(round(sum(shares.values()), 2))
            for name, share in shares.items():
                each[name].rounds.append(round(share, 2))
    each["worker"].notes = "parent, two processes, lease agent"
    rows = [transactions, core, alone, *each.values()]
    report.show("idle", "figure", "", rows)
    report.write("idle", "figure", "", rows)


def _shares(roots: Mapping[str, int]) -> dict[str, float]:
    """Per cent of a core that each process tree takes over `_SECONDS`."""
    before, begun = cpu.spent(roots), time.monotonic()
    time.sleep(_SECONDS)
    after, passed = cpu.spent(roots), time.monotonic() - begun
    return {name: (after[name] - before[name]) / passed * 100 for name in roots}


def _transactions(url: str) -> int:
    time.sleep(1.1)  # a backend tells its statistics at most once a second
    name = url.rpartition("/")[2]
    [(count,)] = databases.rows(url, "SELECT xact_commit FROM pg_stat_database WHERE datname = %s", (name,))
    return int(str(count))
