"""``python -m ledgerq_worker.maintenance.outbox``: a process that does what workers which died after their commit would have
done: chord parts, errbacks, messages, results.

Errbacks and hooks are the users' code: they may sleep, hold the GIL or end the process. So it is one of its own, started by
the maintenance process when something lies in the outbox, and killed when one entry takes too long. It ends when nothing was
left for a while, and with the maintenance process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import structlog

from ledgerq_shared.ids import use_cell
from ledgerq_shared.logging import configure
from ledgerq_shared.settings import LogSettings, StoreSettings, load
from ledgerq_worker.celery import client
from ledgerq_worker.celery.app import build_app
from ledgerq_worker.celery.results import Publisher
from ledgerq_worker.celery.seams.sender import install_sender
from ledgerq_worker.celery.sending import LedgerSender, Submitter
from ledgerq_worker.settings import MaintenanceSettings
from ledgerq_worker.stores import Stores

log = structlog.get_logger()

#: Whoever wrote an outbox entry empties it at once; one that is older than this was left behind by a death.
_LEFT_BEHIND_AFTER = 2.0
_LOOK_AT_OUTBOX_EVERY = 1.0
#: The process ends when it has found nothing for so many seconds.
_IDLE = 60.0


class EmptyOutbox:
    """The duty: has a process at work while something lies in the outbox."""

    name = "empty_outbox"

    def __init__(self, *, every: float) -> None:
        self.every = every
        self._process: subprocess.Popen[bytes] | None = None

    def run_once(self) -> int:
        """Start it unless it runs."""
        if self._process is not None and (code := self._process.poll()) is not None:
            if code:
                log.warning("maintenance.outbox_process_ended", exit_code=code)
            self._process = None
        if self._process is None:
            # It lives as long as this end of its standard input is open.
            self._process = subprocess.Popen([sys.executable, "-m", __spec__.name], stdin=subprocess.PIPE)
        return 0

    def stop(self) -> None:
        """End it: what it has not done is left to the next leader."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _limit(seconds: float) -> None:
    """The kernel ends this process after so many seconds (0: not any more), whoever holds the GIL."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Until nothing is left, or the maintenance process ends."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    logs = load(LogSettings)
    configure(logs, service="outbox")
    stores, settings = load(StoreSettings), load(MaintenanceSettings)
    use_cell(stores.ledgerq_cell)
    connections = Stores(stores, "ledgerq-outbox", debug=logs.debug)
    app = build_app(stores, celery_app=settings.celery_app, task_modules=settings.task_modules, default_queue="default")
    sender = LedgerSender(
        app, Submitter(connections.connect), actor="maintenance", knows=lambda name: name in app.tasks
    )
    install_sender(app, sender)
    client.mark_installed(app)
    database, _ = connections.connect(1)
    publisher = Publisher(app, database, actor="maintenance", limit=_limit)
    found_at = time.monotonic()
    while time.monotonic() - found_at < _IDLE:
        if publisher.empty_outbox(older_than=_LEFT_BEHIND_AFTER):
            found_at = time.monotonic()
        else:
            time.sleep(_LOOK_AT_OUTBOX_EVERY)


if __name__ == "__main__":
    main()
