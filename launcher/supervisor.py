"""The services as child processes: started, restarted when they die, stopped in order, recorded on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from launcher.backoff import Backoff
from launcher.errors import LauncherError, UsageError
from ledgerq_shared.embedded.processes import TOKEN_VARIABLE, Process, kill_launch, new_token, write_record
from ledgerq_shared.languages import say
from ledgerq_shared.process.commands import complain

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.signals import StopRequest

CONFIGURATION_ERROR = 2
_POLL_SECONDS = 0.05


@dataclass
class Service:
    """One child. ``command`` follows the Python interpreter; ``stop_seconds`` is what it may take to end."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    stop_seconds: float
    stdout: IO[bytes] | None = None  # where it prints; None: where we do
    stop_signal: signal.Signals = signal.SIGTERM
    popen: subprocess.Popen[bytes] | None = None
    identity: Process | None = None
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
    """Owns the children of one launch. Every child is in a session of its own, so Ctrl-C reaches only us."""

    def __init__(self, run_folder: Path, stop_request: StopRequest) -> None:
        self._stop_request = stop_request
        self._token = new_token()
        self._me = Process.of(os.getpid(), "launcher")
        self._record = run_folder / f"launcher-{self._me.pid}.json"
        self._services: list[Service] = []
        self._write_record()

    def run_step(self, name: str, command: tuple[str, ...], environment: dict[str, str]) -> str:
        """Run a command to its end; raises :class:`LauncherError` when it fails. Return what it printed; nothing if the
        launcher is asked to stop meanwhile.
        """
        with tempfile.TemporaryFile() as said:
            step = Service(name, command, environment, stop_seconds=10, stdout=said)
            child = self.start(step)
            while child.poll() is None:
                if self._stop_request.wait(_POLL_SECONDS):
                    return ""
            self._services.remove(step)
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
        if child.returncode != 0:
            failure = UsageError if child.returncode == CONFIGURATION_ERROR else LauncherError
            raise failure(
                say("{step} failed (exit code {code}): the reason stands above", step=say(name), code=child.returncode)
            )
        return text

    def start(self, service: Service) -> subprocess.Popen[bytes]:
        """Start a service and put it under supervision. Stopping goes in the order of first starts."""
        service.popen = subprocess.Popen(
            # -P: a file of the current folder, such as email.py, hides nothing that the process needs.
            [sys.executable, "-P", *service.command],
            env={**service.environment, TOKEN_VARIABLE: self._token},
            stdin=subprocess.DEVNULL,
            stdout=service.stdout,
            start_new_session=True,
        )
        service.backoff.started()
        try:
            service.identity = Process.of(service.popen.pid, service.name)
        except ProcessLookupError:
            service.identity = None  # it has ended already; `look_after` will see
        if service not in self._services:
            self._services.append(service)
        self._write_record()
        return service.popen

    def look_after(self) -> None:
        """Restart who has died; raises :class:`UsageError` when a service refuses its configuration."""
        now = time.monotonic()
        for service in self._services:
            if service.backoff.start_at is not None:
                if now >= service.backoff.start_at:
                    self.start(service)
            elif service.popen is not None and service.popen.poll() is not None:
                self._note_death(service, service.popen.returncode)

    def stop(self) -> None:
        """Stop every service in order, then whatever they left behind."""
        for service in self._services:
            self._stop_one(service)
        kill_launch(self._token)
        self._record.unlink(missing_ok=True)

    def _note_death(self, service: Service, code: int) -> None:
        if code == CONFIGURATION_ERROR:
            raise UsageError(
                "the {service} refuses its configuration: the reason stands above", service=say(service.name)
            )
        how = signal.Signals(-code).name if code < 0 else say("exit code {code}", code=code)
        delay = service.backoff.ended()
        text = say(
            "the {service} ended ({how}); it starts again in {seconds:g} s",
            service=say(service.name),
            how=how,
            seconds=delay,
        )
        complain("ledgerq", text)

    def _stop_one(self, service: Service) -> None:
        if service.identity is None or service.popen is None:
            return
        service.identity.send(service.stop_signal)
        deadline = time.monotonic() + service.stop_seconds
        while service.popen.poll() is None and time.monotonic() < deadline and not self._stop_request.hurry:
            time.sleep(_POLL_SECONDS)
        if service.popen.poll() is None:
            service.identity.send(signal.SIGKILL)
            service.popen.wait()

    def _write_record(self) -> None:
        children = [service.identity for service in self._services if service.identity is not None]
        write_record(self._record, [self._me, *children], token=self._token)
