"""(a) A backlog of no-op tasks is drained by two processes; tasks/s from letting go to the last one recorded."""

from __future__ import annotations

import time

from benchmarks import counting, cpu, report
from benchmarks.bed import Bed
from benchmarks.contenders import FLOWER, Contender, LedgerQ, Peer
from benchmarks.options import Options
from tests.support import pgbouncer, wait

_CELERY = [
    "-m",
    "celery",
    "-A",
    "benchmarks.peers.celery_app",
    "worker",
    "-l",
    "WARNING",
    "--without-gossip",
    "--without-mingle",
]
_PREFORK = [*_CELERY, "-P", "prefork", "-c", "2"]
_NOTHING = "nothing"

BASE = "Celery prefork"


def contenders() -> list[Contender]:
    """All, the base of the ratios first."""
    module = "benchmarks.peers.celery_app"
    found: list[Contender] = [
        Peer(BASE, _NOTHING, 0.05, module, _PREFORK),
        LedgerQ(),
        LedgerQ("LedgerQ, results in Redis", "the same, and Celery's result", task="benchmarks.tasks.noop_result"),
        LedgerQ("LedgerQ, Flower listening", "the same, and a share of events in Flower's memory", flower=True),
        Peer("Celery prefork, results in Redis", "result for a day", 0.03, module, _PREFORK, ["noop_result"]),
        Peer(
            "Celery prefork, Flower listening",
            "Flower's memory",
            0.03,
            module,
            [*_PREFORK, "-E"],
            beside=FLOWER,
        ),
        Peer("Celery threads", _NOTHING, 0.05, module, [*_CELERY, "-P", "threads", "-c", "2"]),
        Peer(
            "Dramatiq",
            _NOTHING,
            0.2,
            "benchmarks.peers.dramatiq_app",
            ["-m", "dramatiq", "benchmarks.peers.dramatiq_app", "-p", "2"],
        ),
        Peer(
            "TaskIQ",
            _NOTHING,
            0.2,
            "benchmarks.peers.taskiq_app",
            ["-m", "taskiq", "worker", "benchmarks.peers.taskiq_app:broker", "-w", "2", "--log-level", "ERROR"],
        ),
        Peer(
            "Procrastinate",
            "row, state, events",
            0.01,
            "benchmarks.peers.procrastinate_app",
            ["-m", "procrastinate", "--app=benchmarks.peers.procrastinate_app.app", "worker", "--concurrency=2"],
            schema=["schema"],
        ),
    ]
    if pgbouncer.is_installed():
        found.append(LedgerQ("LedgerQ behind PgBouncer", "as LedgerQ", pgbouncer=True))
    return found


def run(bed: Bed, options: Options) -> None:
    """All contenders, one after the other, round by round."""
    chosen = [one for one in contenders() if one.name == BASE or options.wants(one.name)]
    rows = {one.name: report.Row(one.name, notes=f"keeps {one.keeps}") for one in chosen}
    for _ in range(options.rounds):
        for contender in chosen:
            row = rows[contender.name]
            try:
                rate, spent = drain(bed, contender, max(500, int(options.number * contender.share)))
            except (OSError, AssertionError) as error:
                row.notes = f"not run: {str(error).splitlines()[0][:100]}"
                continue
            row.rounds.append(round(rate, 1))
            row.cpu.append(spent)
            print(f"{contender.name}: {rate:,.0f}/s", flush=True)
    report.against(rows[BASE], list(rows.values()))
    absent = [
        *(
            report.Row(name, notes="not run: no adapter yet (Go, Node)")
            for name in ("River", "BullMQ", "Graphile Worker")
        ),
    ]
    shown = [*rows.values(), *(row for row in absent if options.wants(row.name))]
    report.show("drain of a backlog of no-ops, two processes", "tasks/s", BASE, shown)
    report.write("drain", "tasks/s", BASE, shown)


def drain(bed: Bed, contender: Contender, number: int) -> tuple[float, dict[str, float]]:
    """Tasks/s, and CPU microseconds a task by process."""
    with contender.held(bed) as held:
        already = counting.total(bed.counts)
        held.fill(number)
        before, begun = cpu.spent(held.roots), time.monotonic()
        held.release()
        wait.until(
            lambda: counting.total(bed.counts) >= already + number,
            300,
            what=f"{contender.name} has run all",
            interval=0.01,
        )
        wait.until(held.is_done, 60, what=f"{contender.name} has recorded all", interval=0.002)
        seconds = time.monotonic() - begun
        return number / seconds, cpu.per_task(before, cpu.spent(held.roots), number)
