"""Ends that PostgreSQL takes in no form: they are kept aside and tried again until PostgreSQL takes them, so that they
hold up no others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from ledgerq_worker.drain.pending import Pending

log = structlog.get_logger()

#: Time between two tries, in seconds.
_AGAIN_EVERY = 2.0
#: How many ends are kept at most. A slot with more stands still, as it does for a mistake that concerns all ends.
_MOST = 100


class Aside:
    """The ends that one recorder keeps aside.

    Args:
        record: records one of them, or raises the error that prevents it; called in a thread of its own.
        note: called before an end is kept, and before each try, to note that there are some.
    """

    def __init__(self, record: Callable[[Pending], object], note: Callable[[], object]) -> None:
        self._record = record
        self._note = note
        self._kept: list[Pending] = []
        self._lock = threading.Lock()
        #: Whether an end has been recorded since the last one was put aside. Only then does another end that is refused
        #: not mean that nothing can be recorded at all.
        self.others_pass = True

    @property
    def has_room(self) -> bool:
        """Whether one more end can be kept. If not, the fault may concern all ends, so the slot has to wait."""
        return self.others_pass and len(self._kept) < _MOST

    def take(self, pending: Pending) -> bool:
        """Keep one leg's end; returns False if there is no room for it."""
        with self._lock:
            if not self.has_room:
                return False
            self._note()  # before the slot goes on, so that its claim is not taken for an orphan
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
