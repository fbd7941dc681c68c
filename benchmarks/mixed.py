"""(e) Mixed load on four slots: 90 % no-ops, 9 % of 20 ms, 1 % of 2 s. No no-op waits while a slot is idle."""

from __future__ import annotations

import bisect
import random
import time

from benchmarks import report
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.system import NOOP, System, running
from ledgerq_shared.broker import Broker, Demand
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import execute
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from tests.support import wait

_SLOTS = 4
_SECONDS = 30.0
#: Tasks/s: at 22 ms of run time each on average, three fifths of what four slots can do.
_RATE = 110.0
_KINDS = ((NOOP, "{}"), ("benchmarks.tasks.nap", '{"seconds": 0.02}'), ("benchmarks.tasks.nap", '{"seconds": 2.0}'))
_WEIGHTS = (90, 9, 1)

Span = tuple[float, float]


def run(bed: Bed, options: Options) -> None:
    """Tasks arrive at random moments, one by one."""
    waits = report.Row("no-op: accepted → started")
    behind = report.Row("… of it while a slot was idle")
    for number in range(options.rounds):
        with running(bed, slots=_SLOTS) as system:
            _load(bed, system, random.Random(number))
            wait.until(system.is_done, 120, what="everything is recorded")
            spans = [
                (float(str(row[0])), float(str(row[1])), float(str(row[2])), row[3] == NOOP)
                for row in system.ask(_SPANS)
            ]
            noops = [(accepted, started) for accepted, started, _, is_noop in spans if is_noop]
            busy = _Busy([(started, ended) for _, started, ended, _ in spans])
            _keep(waits, [started - accepted for accepted, started in noops])
            _keep(behind, [busy.idle_within(accepted, started) for accepted, started in noops])
    report.show(f"mixed load, {_RATE:.0f} tasks/s on {_SLOTS} slots", "p99 ms", "", [waits, behind])
    report.write("mixed", "p99 ms", "", [waits, behind])


_SPANS = """
SELECT extract(epoch FROM submitted_at), extract(epoch FROM started_at), extract(epoch FROM completed_at), task_type
FROM task ORDER BY id OFFSET 20
"""


def _load(bed: Bed, system: System, chance: random.Random) -> None:
    broker = Broker(bed.redis_url, client_name="bench")
    due, end = time.monotonic(), time.monotonic() + _SECONDS
    while due < end:
        due += chance.expovariate(_RATE)
        time.sleep(max(0.0, due - time.monotonic()))
        [(task_type, parameters)] = chance.choices(_KINDS, _WEIGHTS)
        with system.database.transaction() as cursor:
            execute(cursor, submit_tasks([NewTask(new_task_id(), task_type, "default", parameters)]))
        broker.wake(Demand("default", 1, _SLOTS))
    broker.close()


class _Busy:
    """How many slots were busy when."""

    def __init__(self, spans: list[Span]) -> None:
        changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
        self._times = [at for at, _ in changes]
        self._counts, count = [], 0
        for _, change in changes:
            count += change
            self._counts.append(count)

    def idle_within(self, begin: float, end: float) -> float:
        """Seconds between the two during which at least one slot had nothing to run."""
        idle, at = 0.0, begin
        index = bisect.bisect_right(self._times, begin)
        while at < end:
            following = min(self._times[index] if index < len(self._times) else end, end)
            if (self._counts[index - 1] if index else 0) < _SLOTS:
                idle += following - at
            at, index = following, index + 1
        return idle


def _keep(row: report.Row, seconds: list[float]) -> None:
    ordered = sorted(second * 1e3 for second in seconds)
    row.rounds.append(round(ordered[len(ordered) * 99 // 100], 1))
    row.notes = (
        f"p50 {ordered[len(ordered) // 2]:.1f} ms, longest {ordered[-1]:.0f} ms of {len(ordered):,} in the last round"
    )
    print(f"{row.name}: p99 {row.rounds[-1]} ms; {row.notes}", flush=True)
