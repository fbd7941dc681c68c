"""The sweep: what came due becomes ready, and every queue with work has its tickets. It is the recovery from lost ones."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ledgerq_shared.database import Database, execute
from ledgerq_shared.statements.dispatch import (
    DUTIES,
    count_ready,
    expire,
    find_due,
    find_expired,
    next_due,
    promote_due,
    what_to_do,
)
from ledgerq_shared.waking import Waker
from ledgerq_worker.apart import Apart
from ledgerq_worker.maintenance.loop import Duty, Round
from ledgerq_worker.maintenance.metrics import DutyMetrics

_BATCH = 1000
#: Promoting rests for so many seconds after a round that found something: what comes due meanwhile goes together, for each
#: round also wakes slots. After one that found nothing it is a moment, in case what is due was locked.
_GATHER = 0.1
_MOMENT = 0.005
#: Ready tasks are counted up to here: more than any number of slots needs.
_COUNT_UP_TO = 1000


class Promote:
    """Makes ready what has waited long enough: an ETA, a retry's delay. Its next round is when the next task is due; what
    comes to be held meanwhile and is due before, the sweep sees.
    """

    name = "promote"
    every = math.inf

    def __init__(self, database: Database, waker: Waker) -> None:
        self._database = database
        self._waker = waker
        self._rest = _MOMENT
        self._apart = Apart(self.name, DutyMetrics(self.name).set_apart)

    def run_once(self) -> int:
        """Promote one batch and wake its queues."""
        rows = self._apart.run(lambda limit: self._database.fetch(find_due(limit=limit)), self._promote)
        if not rows and self._apart.ids:
            self._wait_for(self._database.fetch(next_due(but_for=self._apart.ids)))
        queues = [queue for (queue,) in rows]
        self._rest = _GATHER if queues else _MOMENT
        self._waker.wake(Counter(queues))
        return len(queues)

    def _promote(self, tasks: list[str] | None) -> list[tuple[Any, ...]]:
        with self._database.transaction() as cursor:
            rows = execute(cursor, promote_due(limit=_BATCH, tasks=tasks))
            if not rows:
                self._wait_for(execute(cursor, next_due()))
        return rows

    def _wait_for(self, due: list[tuple[Any, ...]]) -> None:
        [(seconds,)] = due
        self.every = math.inf if seconds is None else max(seconds, self._rest)


class Sweep:
    """One look at everything that may be due, in one small statement, so that an idle system costs next to nothing.

    Publishes the tickets that queues with ready tasks lack: Redis was emptied, a worker died, workers were added. Begins
    the other duties that would find something; each keeps its own time, and one that fails holds up no other.

    Args:
        duties: by what the ledger calls them: ``expire``, ``outbox``.
        promote: brought forward when something is due before the next sweep.
    """

    name = "sweep"

    def __init__(
        self, database: Database, waker: Waker, duties: Mapping[str, Duty], promote: Round, *, every: float
    ) -> None:
        self._database = database
        self._waker = waker
        self._rounds = {name: Round(duty) for name, duty in duties.items()}
        self._promote = promote
        self.every = every

    def run_once(self) -> int:
        """One look. Tickets are no work done: there is no second batch."""
        [found] = self._database.fetch(what_to_do(ahead=self.every))
        is_due = dict(zip(DUTIES, found, strict=True))
        if is_due["wake"]:
            self._waker.wake(dict(self._database.fetch(count_ready(up_to=_COUNT_UP_TO))))
        if is_due["promote"]:
            self._promote.bring_forward()
        for name, duty in self._rounds.items():
            if is_due[name]:
                duty.run_if_due(time.monotonic())
        return 0


class Expire:
    """Ends what was not begun before its expiry."""

    name = "expire"

    def __init__(self, database: Database, *, every: float) -> None:
        self._database = database
        self.every = every
        self._apart = Apart(self.name, DutyMetrics(self.name).set_apart)

    def run_once(self) -> int:
        """Expire one batch."""
        return len(self._apart.run(lambda limit: self._database.fetch(find_expired(limit=limit)), self._expire))

    def _expire(self, tasks: list[str] | None) -> list[tuple[Any, ...]]:
        with self._database.transaction() as cursor:
            return execute(cursor, expire(limit=_BATCH, tasks=tasks))
