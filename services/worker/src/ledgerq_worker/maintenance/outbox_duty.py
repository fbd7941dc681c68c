"""Starts the process that empties the outbox (:mod:`ledgerq_worker.maintenance.outbox`) while there is something in it."""

from __future__ import annotations

import subprocess
import sys

import structlog

log = structlog.get_logger()

#: It is not imported here: it runs users' code, and loads Celery.
_PROGRAM = "ledgerq_worker.maintenance.outbox"


class EmptyOutbox:
    """The duty: keeps a process at work while the outbox is not empty."""

    name = "empty_outbox"

    def __init__(self, *, every: float) -> None:
        self.every = every
        self._process: subprocess.Popen[bytes] | None = None

    def run_once(self) -> int:
        """Start the process unless it runs."""
        if self._process is not None and (code := self._process.poll()) is not None:
            if code:
                log.warning("maintenance.outbox_process_ended", exit_code=code)
            self._process = None
        if self._process is None:
            # The process lives as long as this end of its standard input is open.
            self._process = subprocess.Popen([sys.executable, "-P", "-m", _PROGRAM], stdin=subprocess.PIPE)
        return 0

    def stop(self) -> None:
        """End the process; the next leader does what it has left undone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
