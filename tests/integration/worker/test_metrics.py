"""A worker's metrics: its parent answers, its pool processes have done the work."""

from __future__ import annotations

import re

import pytest

from ledgerq_worker.node.metrics import METRICS
from tests.support import http, wait
from tests.support.ports import free_port
from tests.support.prometheus import promtool

RUNS = 'ledgerq_task_run_seconds_count{{outcome="{}",queue="default",task_type="contract_tasks.{}"}}'


def series(url: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in scrape(url).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def scrape(url: str) -> bytes:
    answer = http.request("GET", url)
    assert answer.status == 200
    return answer.body


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_what_the_slots_did_is_in_the_parents_answer(work, pool):
    port = free_port()
    work.start(LEDGERQ_WORKER_POOL=pool, LEDGERQ_METRICS_PORT=str(port))
    url = f"http://127.0.0.1:{port}/metrics"
    tasks = [work.submit("add", x=1, y=number) for number in range(20)]
    failed = work.submit("fails", text="no")
    for task_id in [*tasks, failed]:
        work.ended(task_id)
    wait.until(lambda: series(url).get(RUNS.format("failed", "fails")) == 1, 30, what=lambda: str(series(url)))
    wait.until(lambda: series(url).get(RUNS.format("succeeded", "add")) == 20, 30, what=lambda: str(series(url)))
    found = series(url)
    assert found["ledgerq_worker_flush_tasks_sum"] == 21
    assert found['ledgerq_worker_claim_tasks_sum{queue="default"}'] >= 21
    assert found['ledgerq_task_queue_seconds_count{queue="default"}'] >= 21
    assert found["ledgerq_worker_slots"] == (1 if pool == "solo" else 2)
    promtool("check", "metrics", told=scrape(url))
    assert set(re.findall(r"^# TYPE (ledgerq_\w+)", scrape(url).decode(), re.MULTILINE)) == {
        metric.name for metric in METRICS
    }


def test_a_killed_pool_process_is_counted_and_takes_no_count_along(work):
    port = free_port()
    work.start(LEDGERQ_METRICS_PORT=str(port), LEDGERQ_WORKER_CONCURRENCY="1")
    url = f"http://127.0.0.1:{port}/metrics"
    for number in range(5):
        work.ended(work.submit("add", x=1, y=number))
    wait.until(lambda: series(url).get(RUNS.format("succeeded", "add")) == 5, 30, what=lambda: str(series(url)))
    work.ended(work.submit("kills_its_process"), timeout=60)
    wait.until(lambda: series(url)["ledgerq_worker_lost_processes_total"] >= 1, 30, what="the death is counted")
    work.ended(work.submit("add", x=1, y=1))
    wait.until(lambda: series(url).get(RUNS.format("succeeded", "add")) == 6, 30, what=lambda: str(series(url)))
