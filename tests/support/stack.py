"""Services as real processes: started on free ports with a chosen environment, stopped by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ledgerq_shared.embedded.processes import TOKEN_VARIABLE, Process, of_launch
from tests.support import http, wait
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_OURS = ("DATABASE_URL", "REDIS_URL", "CELERY_", "LEDGERQ_")
_READY_SECONDS = 60.0
_STOP_SECONDS = 40.0


def clean_environment() -> dict[str, str]:
    """Return this process's environment without anything that would configure LedgerQ."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


@dataclass
class Running:
    """One started process. ``log`` is everything that it and its children wrote."""

    name: str
    popen: subprocess.Popen[bytes]
    log_path: Path
    token: str
    url: str = ""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.popen.pid

    def log(self) -> str:
        """Return what it has written so far, stdout and stderr."""
        return self.log_path.read_text(errors="replace")

    def alive(self) -> bool:
        """True while it runs."""
        return self.popen.poll() is None

    def descendants(self) -> list[Process]:
        """Return every living process of this launch except the one that was started."""
        return [process for process in of_launch(self.token) if process.pid != self.pid]

    def send(self, number: int) -> None:
        """Send a signal to the process that was started (to no other)."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL it, and wait until it has ended; its children get nothing."""
        self.popen.kill()
        self.popen.wait(10)

    def wait(self, seconds: float = _STOP_SECONDS) -> int:
        """Wait until it ends; return its exit code."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds:g} s; it wrote:\n{self.log()}") from None

    def stop(self) -> int:
        """SIGTERM, wait; return its exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def says(self, text: str, timeout: float = 30.0) -> str:
        """Wait until its log contains ``text``; return the log."""

        def spoken() -> bool:
            return text in self.log()

        wait.until(lambda: spoken() or not self.alive(), timeout, what=lambda: f"{text!r} in:\n{self.log()}")
        assert spoken(), f"{self.name} ended without saying {text!r}:\n{self.log()}"
        return self.log()


@dataclass
class Stack:
    """Starts services against one database and one Redis; :meth:`close` ends all that it started.

    ``environment`` is every service's; each start may add to it. ``folder`` is their working directory: put
    task modules and a ``.env`` there.
    """

    folder: Path
    token: str
    environment: dict[str, str] = field(default_factory=dict)
    started: list[Running] = field(default_factory=list)
    python: str = sys.executable
    #: What services write goes there, if it is set, and not into their logs.
    log_device: Path | None = None

    def api(self, **extra: str) -> Running:
        """Start the API on a free port; return when it is ready."""
        port = free_port()
        running = self.start("api", "-m", "ledgerq_api", LEDGERQ_API_PORT=str(port), **extra)
        running.url = f"http://127.0.0.1:{port}"
        return self._ready(running)

    def monitor(self, **extra: str) -> Running:
        """Start the monitor on a free port; return when it lives."""
        port = free_port()
        running = self.start("monitor", "-m", "ledgerq_monitor", LEDGERQ_MONITOR_PORT=str(port), **extra)
        running.url = f"http://127.0.0.1:{port}"
        return self._ready(running, "/livez")

    def flower(self, **extra: str) -> Running:
        """Start Flower on a free port; return when it answers."""
        port = free_port()
        running = self.start("flower", "-m", "ledgerq_monitor.flower", LEDGERQ_FLOWER_PORT=str(port), **extra)
        running.url = f"http://127.0.0.1:{port}"
        return self._ready(running, "/healthcheck")

    def worker(self, **extra: str) -> Running:
        """Start a worker (two slots unless told otherwise); return at once: poll for what it does."""
        return self.start("worker", "-m", "ledgerq_worker", "run", **{"LEDGERQ_WORKER_CONCURRENCY": "2", **extra})

    def maintenance(self, **extra: str) -> Running:
        """Start the maintenance process; return at once."""
        return self.start("maintenance", "-m", "ledgerq_worker", "maintenance", **extra)

    def register(self, **extra: str) -> None:
        """Fill the catalogue of task types, as the launcher does before anything starts."""
        self.run("-m", "ledgerq_worker", "register", **extra)

    def start(self, name: str, *arguments: str, **extra: str) -> Running:
        """Start ``python <arguments>`` in `folder` with this stack's environment."""
        path = self.folder / f"{len(self.started):02d}-{name}.log"
        token = f"{self.token}/{self.folder.name}-{len(self.started)}"
        path.touch()
        with (self.log_device or path).open("wb") as log:
            popen = subprocess.Popen(
                [self.python, *arguments],
                cwd=self.folder,
                env={**self._environment(extra), TOKEN_VARIABLE: token},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(name, popen, path, token)
        self.started.append(running)
        return running

    def run(self, *arguments: str, **extra: str) -> str:
        """Run ``python <arguments>`` to its end, which must be exit code 0; return what it wrote."""
        running = self.start("run", *arguments, **extra)
        code = running.wait(120)
        assert code == 0, f"python {' '.join(arguments)} ended with {code}:\n{running.log()}"
        return running.log()

    def close(self) -> None:
        """Ask all to end, latest first, then kill every process of their launches."""
        for running in reversed(self.started):
            running.send(signal.SIGTERM)
        for running in reversed(self.started):
            try:
                running.popen.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                running.kill()
            for left in of_launch(running.token):
                left.send(signal.SIGKILL)
                left.wait(5)

    def logs(self) -> str:
        """Return everything that was written, for a failed test's report."""
        return "\n".join(f"--- {running.log_path.name}\n{running.log()}" for running in self.started)

    def _ready(self, running: Running, path: str = "/readyz") -> Running:
        def ready() -> bool:
            assert running.alive(), f"{running.name} ended:\n{running.log()}"
            return http.answers(running.url + path)

        wait.until(ready, _READY_SECONDS, what=lambda: f"{running.name} ready; it wrote:\n{running.log()}")
        return running

    def _environment(self, extra: Mapping[str, Any]) -> dict[str, str]:
        return {**clean_environment(), **self.environment, **extra}
