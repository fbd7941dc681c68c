"""Processes recorded on disk, so that the next start can end what a killed one left behind.

A process is known by its pid *and* its start time, never by its name: a pid that now belongs to another process does
not match.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKEN_VARIABLE = "LEDGERQ_LAUNCH"  # noqa: S105 - the name of a variable
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Process:
    """One running or ended process: its pid, and when it started in a form that only ever equals itself."""

    name: str
    pid: int
    started: str

    @classmethod
    def of(cls, pid: int, name: str) -> Process:
        """Describe the living process ``pid``. Raises ``ProcessLookupError`` when there is none."""
        started = _start_of(pid)
        if started is None:
            raise ProcessLookupError(pid)
        return cls(name, pid, started)

    def alive(self) -> bool:
        """True while this very process runs; a zombie has ended."""
        return _start_of(self.pid) == self.started

    def send(self, number: int) -> None:
        """Send a signal if the process is still this one."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, and reap our child; False when it still runs after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            _reap(self.pid)
            if not self.alive():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)

    def stop(self, *, ask: int = signal.SIGTERM, seconds: float) -> None:
        """Ask it to end, and kill it when it has not within ``seconds``."""
        self.send(ask)
        if not self.wait(seconds):
            self.send(signal.SIGKILL)
            self.wait(5)


def let_go(popen: subprocess.Popen[bytes]) -> bool:
    """Leave a child to its record; False when it has ended. Its Popen object may then be dropped."""
    if popen.poll() is not None:
        return False
    popen.returncode = 0
    return True


def new_token() -> str:
    """Return the token of a new launch; a launch that is started inside another (a test run) belongs to that one,
    too.
    """
    inherited = os.environ.get(TOKEN_VARIABLE)
    fresh = secrets.token_hex(16)
    return f"{inherited}/{fresh}" if inherited else fresh


def of_launch(token: str) -> list[Process]:
    """Return every living process with ``LEDGERQ_LAUNCH=<token>`` (or ``<token>/…``) in its environment.

    The token is random and belongs to one launch, so this finds pool children and agents that have no record
    of their own, and nobody else's processes.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            theirs = process.environ().get(TOKEN_VARIABLE, "")
            if process.pid != os.getpid() and (theirs == token or theirs.startswith(f"{token}/")):
                found.append(Process.of(process.pid, "child"))
    return found


def kill_launch(token: str) -> None:
    """Kill whatever is left of a launch; ask its services to stop first (:meth:`Process.stop`)."""
    for process in of_launch(token):
        process.send(signal.SIGKILL)
        process.wait(5)


def write_record(path: Path, processes: Iterable[Process], **extra: str) -> None:
    """Write ``processes`` to ``path`` in one step: a reader sees the old record or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"processes": [asdict(process) for process in processes], **extra}
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(body, indent=1))
    fresh.replace(path)


def read_record(path: Path) -> tuple[list[Process], dict[str, str]]:
    """Return the processes and the other fields of a record; nothing when it is absent or torn."""
    try:
        body = json.loads(path.read_text())
        processes = [Process(**entry) for entry in body.pop("processes")]
    except (OSError, ValueError, KeyError, TypeError):
        return [], {}
    return processes, body


def living(record: Path) -> list[Process]:
    """Return the processes of a record that still run."""
    return [process for process in read_record(record)[0] if process.alive()]


def have_died(record: Path) -> bool:
    """Whether all processes of a record have ended, although nobody has removed the record."""
    recorded, _ = read_record(record)
    return bool(recorded) and not any(process.alive() for process in recorded)


def _start_of(pid: int) -> str | None:
    """Return the start time of a living process; None when there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = _BOOT_ID.read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return _start_by_psutil(pid) if not _BOOT_ID.exists() else None
    # Clock ticks since this boot: unlike a wall-clock time, no clock step can change them.
    return None if fields[0] in "ZX" else f"{boot}+{fields[19]}"


def _start_by_psutil(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def _reap(pid: int) -> None:
    # Takes the exit code away from a Popen object: ask that one first where the code matters.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
