"""Ten thousand tasks with the same ETA: how late each begins, by the ledger's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from benchmarks import report
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.system import NOOP, System, running
from tests.support import http, wait

_TASKS = 10_000
_BATCH = 1000
#: Until they are due; all must be submitted before.
_AHEAD = timedelta(seconds=15)


def run(bed: Bed, options: Options) -> None:
    """Two processes serve them; they were warmed up, so that claims have their full size."""
    row = report.Row(f"{_TASKS:,} no-ops due at the same moment")
    for _ in range(options.rounds):
        with running(bed, warm_up=50) as system:
            _measure(system, row)
    report.show("due → started, the p99 of each round", "p99 ms", "", [row])
    report.write("due", "p99 ms", "", [row])


def _measure(system: System, row: report.Row) -> None:
    due = datetime.now(UTC) + _AHEAD
    one = {"task_type": NOOP, "task_parameters": {}, "eta": due.isoformat()}
    for _ in range(_TASKS // _BATCH):
        answer = http.request("POST", f"{system.api.url}/tasks/submit/batch", {"tasks": [one] * _BATCH})
        assert answer.status == 202, answer
    assert datetime.now(UTC) < due, "submitting them took longer than the time until they are due"
    ended = f"SELECT count(*) = {_TASKS} FROM task WHERE run_at IS NOT NULL AND completed_at IS NOT NULL"
    wait.until(lambda: system.ask(ended)[0][0], 120, what="all of them are recorded", interval=0.2)
    [(middle, p99, most, early)] = system.ask(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY late), percentile_cont(0.99) WITHIN GROUP (ORDER BY late),"
        " max(late), count(*) FILTER (WHERE late < 0)"
        " FROM (SELECT 1000 * extract(epoch FROM started_at - run_at)::float AS late"
        "       FROM task WHERE run_at IS NOT NULL) AS found"
    )
    assert not early, f"{early} began before their time"
    row.rounds.append(round(float(str(p99)), 1))
    row.notes = f"last round: p50 {float(str(middle)):.0f} ms, longest {float(str(most)):.0f} ms"
    print(f"{row.name}: p99 {row.rounds[-1]} ms; {row.notes}", flush=True)
