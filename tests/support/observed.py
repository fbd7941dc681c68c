"""A whole stack that a Prometheus scrapes, as in Compose: API, worker, maintenance and monitor, each a job of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support import http
from tests.support.ports import free_port
from tests.support.prometheus import Prometheus

if TYPE_CHECKING:
    from tests.support.stack import Running, Stack

TASKS = """
import os, signal, time
from celery import shared_task

@shared_task
def add(x, y):
    return x + y

@shared_task
def fails():
    raise ValueError("as asked")

@shared_task
def kills_its_process():
    os.kill(os.getpid(), signal.SIGKILL)

@shared_task
def runs(seconds):
    time.sleep(seconds)
"""


@dataclass
class Observed:
    """Starts the parts one by one, on ports that Prometheus knows from the beginning."""

    stack: Stack
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the ports, lay the task module out."""
        self.ports = {job: free_port() for job in ("monitor", "api", "worker", "maintenance")}
        (self.stack.folder / "observed_tasks.py").write_text(TASKS)
        self.stack.environment.update(
            LEDGERQ_TASK_MODULES="observed_tasks",
            LEDGERQ_MONITOR_PORT=str(self.ports["monitor"]),
            LEDGERQ_MONITOR_CACHE_SECONDS="0",
        )

    def prometheus(self, *, rules: str | None = None) -> Prometheus:
        """Knows all four jobs; not started."""
        targets = {f"ledgerq-{job}": f"127.0.0.1:{port}" for job, port in self.ports.items()}
        return Prometheus(self.stack.folder, targets, token=self.stack.token, rules=rules)

    def monitor(self, **extra: str) -> Running:
        """Start the monitor."""
        return self.stack.start("monitor", "-m", "ledgerq_monitor", **extra)

    def api(self) -> Running:
        """Start the API."""
        return self.stack.start("api", "-m", "ledgerq_api", LEDGERQ_API_PORT=str(self.ports["api"]))

    def worker(self, **extra: str) -> Running:
        """Start a worker."""
        return self.stack.worker(LEDGERQ_METRICS_PORT=str(self.ports["worker"]), **extra)

    def maintenance(self, **extra: str) -> Running:
        """Start maintenance."""
        return self.stack.maintenance(LEDGERQ_METRICS_PORT=str(self.ports["maintenance"]), **extra)

    @property
    def url(self) -> str:
        """The API's."""
        return f"http://127.0.0.1:{self.ports['api']}"

    def submit(self, name: str, *, queue: str = "default", number: int = 1, **parameters: Any) -> list[str]:
        """Submit tasks of ``observed_tasks`` over HTTP; their ids."""
        more: dict[str, Any] = {"countdown": parameters.pop("countdown")} if "countdown" in parameters else {}
        task = {"task_type": f"observed_tasks.{name}", "task_parameters": parameters, "queue": queue, **more}
        answer = http.request("POST", f"{self.url}/tasks/submit/batch", {"tasks": [task] * number})
        assert answer.status == 202, answer.body
        return [accepted["task_id"] for accepted in answer.json()["tasks"]]
