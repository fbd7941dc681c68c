"""The base class for tasks that report to the ledger.

    @shared_task(bind=True, base=DatabaseAwareTask)
    def my_custom_task(self, param1, param2):
        self.update_progress(0, "starting")
        ...
        return {"status": "success"}

Everything that Celery's own ``Task`` offers keeps working; ``delay`` and ``apply_async`` go through the ledger.
"""

from __future__ import annotations

import math
from typing import Any

from celery import Task

from ledgerq_shared.errors import DuplicateTask
from ledgerq_shared.ids import new_task_id
from ledgerq_worker.celery import client
from ledgerq_worker.slot import legs
from ledgerq_worker.slot.encoding import to_json
from ledgerq_worker.slot.legs import TaskCancelled

__all__ = ["DatabaseAwareTask", "TaskCancelled"]

_MAX_STATUS = 1000
_MAX_LOG_BYTES = 64 * 1024


class DatabaseAwareTask(Task):
    """A Celery task that reports progress and log lines to the ledger and can be cancelled.

    Attributes:
        on_worker_lost: what happens when its worker dies while it runs: ``rerun`` (default) or ``fail``.
    """

    abstract = True
    on_worker_lost = "rerun"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """That a task ends because somebody cancelled it is no error: Celery logs it without a traceback."""
        super().__init_subclass__(**kwargs)
        cls.throws = (*(cls.throws or ()), TaskCancelled)

    def update_progress(self, progress: float, status: str | None = None) -> None:
        """Report how far the task is.

        Call it as often as you like: a call costs microseconds, writes are throttled, and the last value is always
        kept. Outside of a worker (if the task is called directly, in a test) nothing happens.

        Args:
            progress: per cent, 0 to 100; values beyond are cut off.
            status: a short text for people; None for no text.

        Raises:
            TypeError: ``progress`` is not a number.
        """
        percent = float(progress)
        if math.isnan(percent):
            raise ValueError("progress must be a number between 0 and 100, not NaN")
        leg = legs.current()
        if leg is not None:
            text = None if status is None else _storable(str(status))[:_MAX_STATUS]
            leg.recorder.progressed(leg, min(max(percent, 0.0), 100.0), text)

    def log(self, message: str, **data: Any) -> None:
        """Add a line to the task's history.

        Args:
            message: for people.
            **data: more about it; must be JSON.

        Raises:
            ValueError: the line is more than 64 KiB as JSON, or not JSON.
        """
        leg = legs.current()
        try:
            line = to_json({"message": str(message), **data})
        except TypeError as error:
            raise ValueError(f"a log line must be JSON: {error}") from None
        if len(line) > _MAX_LOG_BYTES:
            raise ValueError(f"a log line may have {_MAX_LOG_BYTES:,} bytes as JSON, this one has {len(line):,}")
        if leg is not None:
            leg.recorder.logged(leg, line)

    def is_cancelled(self) -> bool:
        """Whether somebody asked to cancel this task. The question is cheap: ask as often as you like."""
        leg = legs.current()
        return leg is not None and leg.is_cancelled

    def raise_if_cancelled(self) -> None:
        """End the task as REVOKED if somebody asked to cancel it.

        Raises:
            TaskCancelled: to be let through.
        """
        if self.is_cancelled():
            raise TaskCancelled("cancellation was requested")

    def apply_async(self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any) -> Any:
        """As Celery's, but the task goes into the ledger, and is committed when this returns.

        Args:
            args, kwargs, task_id: Celery's.
            **options: Celery's, and ``unique_key``, ``unique_policy``, ``unique_ttl`` as for a submit over HTTP. With the
                policy ``return_existing`` the result is that of the task that holds the key.

        Raises:
            DuplicateTask: the unique key is taken, and the policy is not ``return_existing``.
        """
        client.install(self.app)
        try:
            return super().apply_async(args, kwargs, task_id=task_id or str(new_task_id()), **options)
        except DuplicateTask as error:
            if options.get("unique_policy") in {None, "return_existing"}:
                return self.AsyncResult(error.extra["task_id"])
            raise


def _storable(text: str) -> str:
    """Replace NUL and lone surrogates, which PostgreSQL's text cannot hold."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
