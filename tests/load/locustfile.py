"""Load for a running LedgerQ: ``make load``, or Locust's web page (``locust -f tests/load/locustfile.py``).

LOAD_SCENARIO chooses: ``submit`` (submit and poll), ``batch``, ``watch`` (long polls), ``mixed`` (all three), ``burst``
(mixed, in waves). LEDGERQ_API_KEY is sent where it is set, or what the file LOAD_KEY_FILE says; it needs tasks:submit and
tasks:read. At the end the API is asked whether every task that was accepted has ended, and the thresholds are compared;
either failing makes the exit code 1.
"""

from __future__ import annotations

import logging
import os
import time
import tomllib
import uuid
from pathlib import Path

import gevent
import requests
from locust import HttpUser, LoadTestShape, between, events, task
from locust.env import Environment

log = logging.getLogger("ledgerq.load")

SCENARIO = os.environ.get("LOAD_SCENARIO") or "mixed"
SCENARIOS = ("submit", "batch", "watch", "mixed", "burst")
TASK_TYPE = os.environ.get("LOAD_TASK_TYPE") or "clients.celery.example_tasks.word_count"
BATCH_SIZE = 100
FINAL = {"SUCCESS", "FAILURE", "REVOKED"}
UNFINISHED = ("PENDING", "STARTED", "RETRY")
#: All tasks of this run carry it.
TAG = f"load-{uuid.uuid4()}"
#: Seconds after which a client no longer waits for its task: the question at the end still does.
PATIENCE = 60.0
#: Up to here the API counts exactly.
EXACT = 10_000

if SCENARIO not in SCENARIOS:
    raise SystemExit(f"LOAD_SCENARIO={SCENARIO}: there are {', '.join(SCENARIOS)}")


def thresholds() -> dict[str, float]:
    """The scenario's thresholds, which replace the default ones."""
    path = Path(os.environ.get("LOAD_THRESHOLDS") or Path(__file__).parent / "thresholds.toml")
    told = tomllib.loads(path.read_text("utf-8"))
    return {**told["default"], **told.get(SCENARIO, {})}


def headers() -> dict[str, str]:
    key = os.environ.get("LEDGERQ_API_KEY")
    if not key and (path := os.environ.get("LOAD_KEY_FILE")):
        key = Path(path).read_text("utf-8").strip()
    return {"Authorization": f"Bearer {key}"} if key else {}


def body() -> dict[str, object]:
    return {"task_type": TASK_TYPE, "task_parameters": {"document_id": "notes-1"}, "tags": [TAG]}


class Accepted:
    """How many tasks the API has accepted. Locust's users are greenlets of one thread."""

    count = 0


class Client(HttpUser):
    """What all clients do."""

    abstract = True
    wait_time = between(0.01, 0.1)

    def on_start(self) -> None:
        self.client.headers.update(headers())

    def submitted(self) -> str | None:
        with self.client.post("/tasks/submit", json=body(), name="submit", catch_response=True) as answer:
            if answer.status_code != 202:
                answer.failure(f"{answer.status_code} {answer.text[:200]}")
                return None
            Accepted.count += 1
            return str(answer.json()["task_id"])

    def ended(self, begun_at: float, error: Exception | None = None) -> None:
        """Count the time from submit to end as a request of its own."""
        self.environment.events.request.fire(
            request_type="TASK", name="ended", response_time=(time.perf_counter() - begun_at) * 1000, response_length=0,
            exception=error, context={},
        )  # fmt: skip


class SubmitAndPoll(Client):
    """Submits a task and asks for its status until it has ended."""

    abstract = SCENARIO not in {"submit", "mixed", "burst"}
    weight = 3

    @task
    def submit_and_poll(self) -> None:
        begun_at = time.perf_counter()
        task_id = self.submitted()
        while task_id is not None:
            answer = self.client.get(f"/tasks/{task_id}/status", name="status")
            if answer.status_code == 200 and answer.json()["status"] in FINAL:
                self.ended(begun_at)
                return
            if time.perf_counter() - begun_at > PATIENCE:
                self.ended(begun_at, TimeoutError(f"task {task_id} has not ended"))
                return
            gevent.sleep(0.2)


class Watcher(Client):
    """Submits a task and lets the API hold the answer until it has ended."""

    abstract = SCENARIO not in {"watch", "mixed", "burst"}
    weight = 3

    @task
    def submit_and_watch(self) -> None:
        begun_at = time.perf_counter()
        task_id = self.submitted()
        if task_id is None:
            return
        answer = self.client.get(
            f"/tasks/{task_id}/status", name="long poll", headers={"Prefer": f"wait={int(PATIENCE)}"}
        )
        has_ended = answer.status_code == 200 and answer.json()["status"] in FINAL
        self.ended(begun_at, None if has_ended else TimeoutError(f"task {task_id} has not ended"))


class Batcher(Client):
    """Submits many tasks at once."""

    abstract = SCENARIO not in {"batch", "mixed", "burst"}
    wait_time = between(0.5, 1.5)

    @task
    def submit_batch(self) -> None:
        tasks = {"tasks": [body() for _ in range(BATCH_SIZE)]}
        with self.client.post("/tasks/submit/batch", json=tasks, name="batch", catch_response=True) as answer:
            if answer.status_code != 202:
                answer.failure(f"{answer.status_code} {answer.text[:200]}")
                return
            Accepted.count += int(answer.json()["accepted"])


if SCENARIO == "burst":

    class Waves(LoadTestShape):
        """A few clients, and every ten seconds many for two."""

        quiet, many = 2, int(os.environ.get("LOAD_USERS") or 20)
        seconds = int(os.environ.get("LOAD_SECONDS") or 60)

        def tick(self) -> tuple[int, float] | None:
            run_time = self.get_run_time()
            if run_time > self.seconds:
                return None
            return (self.many, self.many) if run_time % 10 < 2 else (self.quiet, self.many)


@events.quitting.add_listener
def judge(environment: Environment, **_: object) -> None:
    """After the last request: is everything that was accepted done, and was it quick enough?"""
    if environment.runner:
        environment.runner.quit()  # if a signal ends the run, its clients would go on while the end is waited for
    wanted = thresholds()
    wrong = [*_unfinished(str(environment.host), wanted["all_ended_within"]), *_too_slow(environment, wanted)]
    if not Accepted.count:
        wrong.append("no task was accepted")
    for line in wrong:
        log.error("load: %s", line)
    if not wrong:
        log.info("load: %d tasks were accepted, and all have ended; every threshold is kept", Accepted.count)
    environment.process_exit_code = 1 if wrong else 0


def _unfinished(host: str, seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while any(left := {state: _count(host, status=state) for state in UNFINISHED}.values()):
        if time.monotonic() > deadline:
            return [f"{sum(left.values())} accepted tasks have not ended within {seconds:g} s"]
        gevent.sleep(0.5)
    known = _count(host)
    if known < min(Accepted.count, EXACT):  # more: a client was stopped before it had read the answer
        return [f"the API accepted {Accepted.count} tasks and knows {known}"]
    return []


def _count(host: str, **query: str) -> int:
    answer = requests.get(f"{host}/tasks/", params={"tag": TAG, "page_size": 1, **query}, headers=headers(), timeout=60)
    answer.raise_for_status()
    return int(answer.json()["total_count"])


def _too_slow(environment: Environment, wanted: dict[str, float]) -> list[str]:
    stats = environment.stats
    wrong = []
    if stats.total.fail_ratio > wanted["failed_share"]:
        wrong.append(f"{stats.total.fail_ratio:.2%} of the requests failed; allowed are {wanted['failed_share']:.2%}")
    limits = {("submit", "POST"): "submit_p95", ("batch", "POST"): "submit_p95", ("ended", "TASK"): "ended_p95"}
    for (name, method), limit in limits.items():
        entry = stats.entries.get((name, method))
        seconds = entry.get_response_time_percentile(0.95) / 1000 if entry and entry.num_requests else 0.0
        if seconds > wanted[limit]:
            wrong.append(f"{name}: 95 % within {seconds:.2f} s; wanted are {wanted[limit]:g} s ({limit})")
    return wrong
