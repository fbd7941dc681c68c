"""Ends that PostgreSQL takes in no form: kept aside, and tried again until it takes them, so that they hold up nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from ledgerq_worker.drain.pending import Pending

log = structlog.get_logger()

#: Time between two tries, in seconds.
_AGAIN_EVERY = 2.0
#: Most that are kept. A slot that has more stands still, as for a mistake that concerns all.
_MOST = 100


class Aside:
    """What one recorder keeps aside.

    Args:
        record: records one of them, or raises what forbids it; called in a thread of its own.
        note: told before one is kept, and before each try, that there are some.
    """

    def __init__(self, record: Callable[[Pending], object], note: Callable[[], object]) -> None:
        self._record = record
        self._note = note
        self._kept: list[Pending] = []
        self._lock = threading.Lock()
        #: Whether an end has been recorded since the last one was put aside: only then another one is no sign that nothing
        #: can be recorded at all.
        self.others_pass = True

    @property
    def has_room(self) -> bool:
        """Whether it takes one more. If not, it may be everybody's trouble, so the slot is to wait."""
        return self.others_pass and len(self._kept) < _MOST

    def take(self, pending: Pending) -> bool:
        """Keep one leg's end; false: there is no room for it."""
        with self._lock:
            if not self.has_room:
                return False
            self._note()  # before the slot goes on: its claim is not forgotten
            self.others_pass = False
            self._kept.append(pending)
            if len(self._kept) == 1:
                threading.Thread(target=self._try_again, name="aside", daemon=True).start()
        log.error(
            "worker.outcome.set_aside",
            task_ids=pending.task_ids,
            what="PostgreSQL takes this end in no form; it is tried again until it does, and others go on",
        )
        return True

    def _try_again(self) -> None:
        while True:
            time.sleep(_AGAIN_EVERY)
            for pending in list(self._kept):
                self._note()
                try:
                    self._record(pending)
                except Exception as error:
                    log.warning("worker.outcome.still_aside", task_ids=pending.task_ids, error=str(error).strip())
                    continue
                with self._lock:
                    self._kept.remove(pending)
            with self._lock:
                if not self._kept:
                    return
