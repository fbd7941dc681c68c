"""Celery's prefork pool, which notices at once that one of its processes died.

A dying process closes its files a moment before it can be waited for. Celery wakes up at the first, finds nobody to
wait for, stops watching, and looks again up to five seconds later (Celery 5.7); until then the slot is empty.
"""

from __future__ import annotations

from typing import Any

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool

#: Time between two looks for a process that seems to be dying, in seconds, and how many there are.
_LOOK_AGAIN_AFTER = 0.01
_LOOKS = 50


class _WatchfulPool(AsynPool):
    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        self._look_again(hub, proc, _LOOKS)

    def _look_again(self, hub: Any, proc: Any, looks: int) -> None:
        if looks and proc in self._pool:
            self.maintain_pool()
            hub.call_later(_LOOK_AGAIN_AFTER, self._look_again, hub, proc, looks - 1)


class WatchfulTaskPool(TaskPool):
    """The pool to give to Celery's worker instead of the name ``prefork``."""

    Pool = _WatchfulPool
