"""What Celery's worker and its pool would write past every log: it becomes a line of the log."""

from __future__ import annotations

import structlog
from billiard.util import get_logger
from celery.apps import worker

log = structlog.get_logger()


def log_sayings() -> None:
    """Log what Celery says when it ends, for example. It says this in a signal's handler; our log takes no lock.

    Of its pool it is said that a process has died: billiard keeps that from the log, and Python then writes the bare text.
    """
    worker.safe_say = _log
    get_logger().propagate = True


def _log(msg: object, f: object = None) -> None:
    log.info("worker.celery", says=str(msg))
