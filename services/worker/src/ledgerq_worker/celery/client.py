"""``delay`` and ``apply_async`` from any Python process: a web application, a script, a shell.

A worker has its way into the ledger already. Any other process gets one when it first sends a
:class:`DatabaseAwareTask`, provided that ``DATABASE_URL`` is set there. Without that variable the message goes to the
broker, as in plain Celery, and the worker that takes it adopts it.
"""

from __future__ import annotations

import atexit
import os
import threading

from celery import Celery

from ledgerq_shared.ids import use_cell
from ledgerq_shared.settings import StoreSettings, load
from ledgerq_worker.celery.seams.sender import install_sender
from ledgerq_worker.celery.sending import LedgerSender, Submitter
from ledgerq_worker.stores import Stores

_lock = threading.Lock()
_MARK = "_ledgerq_sends"


def install(app: Celery) -> None:
    """Let this application's messages for ledger tasks become rows of the ledger. A second call does nothing."""
    with _lock:
        if getattr(app, _MARK, False) or not os.environ.get("DATABASE_URL"):
            return
        settings = load(StoreSettings)
        use_cell(settings.ledgerq_cell)
        submitter = Submitter(Stores(settings, "ledgerq-client").connect)
        atexit.register(submitter.close)  # a script may end right after its last `delay`
        install_sender(app, LedgerSender(app, submitter, actor="client", knows=lambda name: _is_ours(app, name)))
        mark_installed(app)


def mark_installed(app: Celery) -> None:
    """Note that this application has its way into the ledger."""
    setattr(app, _MARK, True)


def _is_ours(app: Celery, task_type: str) -> bool:
    """Whether a task goes into the ledger: outside of a worker, only tasks with our base class do; Celery sends the
    others as usual.
    """
    return hasattr(app.tasks.get(task_type), "update_progress")
