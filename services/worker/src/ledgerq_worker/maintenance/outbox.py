"""``python -m ledgerq_worker.maintenance.outbox``: a process that does what workers that died after their commit have
left undone: chord parts, errbacks, messages, results.

Errbacks and hooks are the users' code: they may sleep, hold the GIL or end the process. So this is a process of its
own. The maintenance process starts it when the outbox is not empty (:mod:`ledgerq_worker.maintenance.outbox_duty`), and
it is killed if one entry takes too long. It ends when the outbox has been empty for a while, or when the maintenance
process ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from ledgerq_shared.ids import use_cell
from ledgerq_shared.process.logging import configure
from ledgerq_shared.settings import LogSettings, StoreSettings, load
from ledgerq_worker.celery import client
from ledgerq_worker.celery.app import build_app
from ledgerq_worker.celery.outbox import Outbox
from ledgerq_worker.celery.sending import Submitter
from ledgerq_worker.settings import MaintenanceSettings
from ledgerq_worker.stores import Stores

#: The process that writes an entry of the outbox does it at once; an entry older than this, in seconds, was left behind
#: by a death.
_LEFT_BEHIND_AFTER = 2.0
_LOOK_AT_OUTBOX_EVERY = 1.0
#: The process ends when it has found nothing for this many seconds.
_IDLE = 60.0


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _limit(seconds: float) -> None:
    """Let the kernel end this process after ``seconds`` (0: no longer), even if something holds the GIL."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Run until nothing is left, or the maintenance process ends."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    logs = load(LogSettings)
    configure(logs, service="outbox", prints=dict)
    stores, settings = load(StoreSettings), load(MaintenanceSettings)
    use_cell(stores.ledgerq_cell)
    connections = Stores(stores, "ledgerq-outbox", debug=logs.debug)
    app = build_app(stores, celery_app=settings.celery_app, task_modules=settings.task_modules, default_queue="default")
    client.install_for_all(app, Submitter(connections.connect), actor="maintenance")
    database, _ = connections.connect(1)
    outbox = Outbox(app, database, actor="maintenance", limit=_limit)
    found_at = time.monotonic()
    while time.monotonic() - found_at < _IDLE:
        if outbox.empty(older_than=_LEFT_BEHIND_AFTER):
            found_at = time.monotonic()
        else:
            time.sleep(_LOOK_AT_OUTBOX_EVERY)


if __name__ == "__main__":
    main()
