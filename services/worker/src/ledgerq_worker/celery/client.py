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
        _install(app, LedgerSender(app, submitter, actor="client", knows=lambda name: _is_ours(app, name)))


def install_for_all(app: Celery, submitter: Submitter, *, actor: str) -> None:
    """Let this application's messages for any task that it knows become rows of the ledger, as in a worker.

    Args:
        submitter: the way into the ledger.
        actor: who submits, for the event log.
    """
    _install(app, LedgerSender(app, submitter, actor=actor, knows=lambda name: name in app.tasks))


def _install(app: Celery, sender: LedgerSender) -> None:
    install_sender(app, sender)
    setattr(app, _MARK, True)


def _is_ours(app: Celery, task_type: str) -> bool:
    """Whether a task goes into the ledger: outside of a worker, only tasks with our base class do; Celery sends the
    others as usual.
    """
    return hasattr(app.tasks.get(task_type), "update_progress")
