"""What Celery's worker would write to standard output past every log: it becomes a line of the log."""

from __future__ import annotations

import structlog
from celery.apps import worker

log = structlog.get_logger()


def log_sayings() -> None:
    """Log what Celery says when it ends, for example. It says this in a signal's handler; our log takes no lock."""
    worker.safe_say = _log


def _log(msg: object, f: object = None) -> None:
    log.info("worker.celery", says=str(msg))
