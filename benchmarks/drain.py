"""(a) A backlog of no-op tasks is drained by two processes; tasks/s from letting go to the last one recorded."""

from __future__ import annotations

import time

from benchmarks import counting, cpu, foreign, report
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
    ours: list[Contender] = [
        LedgerQ(),
        LedgerQ("LedgerQ, results in Redis", "the same, and Celery's result", task="benchmarks.tasks.noop_result"),
        LedgerQ("LedgerQ, Flower listening", "the same, and a share of events in Flower's memory", flower=True),
    ]
    if pgbouncer.is_installed():
        ours.append(LedgerQ("LedgerQ behind PgBouncer", "as LedgerQ; transaction mode, unprepared", pgbouncer=True))
    celery, *others = _peers()
    return [celery, *ours, *others]


def _peers() -> list[Peer]:
    celery, dramatiq, taskiq, procrastinate = (
        ["-m", f"benchmarks.peers.{name}_app"] for name in ("celery", "dramatiq", "taskiq", "procrastinate")
    )
    bullmq, graphile = foreign.script("bullmq_app.js"), foreign.script("graphile_app.js")
    return [
        Peer(BASE, _NOTHING, 0.04, _PREFORK, celery),
        Peer("Celery prefork, results in Redis", "result for a day", 0.025, _PREFORK, [*celery, "noop_result"]),
        Peer("Celery prefork, Flower listening", "Flower's memory", 0.025, [*_PREFORK, "-E"], celery, beside=FLOWER),
        Peer("Celery threads", _NOTHING, 0.04, [*_CELERY, "-P", "threads", "-c", "2"], celery),
        Peer("Dramatiq", _NOTHING, 0.15, ["-m", "dramatiq", "benchmarks.peers.dramatiq_app", "-p", "2"], dramatiq),
        Peer(
            "TaskIQ",
            _NOTHING,
            0.15,
            ["-m", "taskiq", "worker", "benchmarks.peers.taskiq_app:broker", "-w", "2", "--log-level", "ERROR"],
            taskiq,
        ),
        Peer(
            "Procrastinate",
            "row, state, events",
            0.01,
            ["-m", "procrastinate", "--app=benchmarks.peers.procrastinate_app.app", "worker", "--concurrency=2"],
            procrastinate,
            schema=[*procrastinate, "schema"],
            recorded="SELECT NOT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
        ),
        Peer(
            "River",
            "row and state for a day; one process on both cores",
            1.0,
            ["work"],
            ["fill"],
            schema=["schema"],
            recorded="SELECT NOT EXISTS (SELECT FROM river_job WHERE state IN ('available', 'running'))",
            program=foreign.river,
        ),
        Peer("BullMQ", _NOTHING, 0.5, [bullmq, "work"], [bullmq, "fill"], program=foreign.node),
        Peer(
            "Graphile Worker, local queue",
            _NOTHING,
            1.0,
            [graphile, "work"],
            [graphile, "fill"],
            schema=[graphile, "schema"],
            recorded="SELECT NOT EXISTS (SELECT FROM graphile_worker._private_jobs)",
            program=foreign.node,
        ),
    ]


def run(bed: Bed, options: Options) -> None:
    """All contenders, one after the other, round by round."""
    chosen = [one for one in contenders() if one.name == BASE or options.wants(one.name)]
    rows = {one.name: report.Row(one.name, notes=f"keeps {one.keeps}") for one in chosen}
    for _ in range(options.rounds):
        for contender in chosen.copy():
            row = rows[contender.name]
            try:
                rate, spent = drain(bed, contender, max(500, int(options.number * contender.share)))
            except (OSError, AssertionError, foreign.NotThereError) as error:
                chosen.remove(contender)
                row.notes = f"not run: {str(error).splitlines()[0][:100]}"
                print(f"{contender.name}: {row.notes}", flush=True)
                continue
            row.rounds.append(round(rate, 1))
            row.cpu.append(spent)
            print(f"{contender.name}: {rate:,.0f}/s", flush=True)
    report.against(rows[BASE], list(rows.values()))
    shown = list(rows.values())
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
        wait.until(held.is_done, 60, what=f"{contender.name} has recorded all", interval=0.005)
        seconds = time.monotonic() - begun
        return number / seconds, cpu.per_task(before, cpu.spent(held.roots), number)
