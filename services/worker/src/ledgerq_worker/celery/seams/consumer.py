"""Celery's consumer, which asks a broker that is away again within a second: Celery's own waits up to thirty."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from ledgerq_shared import outages
from ledgerq_shared.redis_access import note_failure, note_success

#: Seconds between two tries: at first (and by how much each pause grows), and at most.
_PAUSE, _LONGEST_PAUSE = 0.2, 1.0

#: The name by which Celery's setting `worker_consumer` knows it.
NAME = f"{__name__}:PromptConsumer"


class PromptConsumer(Consumer):
    """Tries again soon, for ever, and leaves it to :mod:`ledgerq_shared.outages` to log the outage."""

    def ensure_connected(self, conn: Any) -> Any:
        """The connection, once it is established."""
        conn = conn.ensure_connection(
            lambda error, _pause: note_failure(error),
            None,
            interval_start=_PAUSE,
            interval_step=_PAUSE,
            interval_max=_LONGEST_PAUSE,
            callback=maybe_shutdown,
        )
        note_success(writes=False)
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        return conn

    def on_connection_error_before_connected(self, error: Exception) -> None:
        """Celery's way on, and a note."""
        note_failure(error)
        super().on_connection_error_before_connected(error)

    def on_connection_error_after_connected(self, error: Exception) -> None:
        """Celery's way on, and a note."""
        note_failure(error)
        with warnings.catch_warnings():  # about a setting that we have set for a reason
            warnings.simplefilter("ignore")
            super().on_connection_error_after_connected(error)


def tell_of_errors(consumer: Any, tell: Callable[[], None]) -> None:
    """Call ``tell`` whenever Celery's consumer meets an error of the broker and is about to connect anew."""
    for name in ("on_connection_error_before_connected", "on_connection_error_after_connected"):
        original: Callable[[Exception], None] = getattr(consumer, name)

        def told(error: Exception, original: Callable[[Exception], None] = original) -> None:
            tell()
            original(error)

        setattr(consumer, name, told)


def _is_news(_record: logging.LogRecord) -> bool:
    """Whether a log record is news: while Redis is away, everything that the consumer logs is about that."""
    return not (outages.REDIS.is_on or outages.REDIS_WRITES.is_on)


logging.getLogger("celery.worker.consumer.consumer").addFilter(_is_news)
