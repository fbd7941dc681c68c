"""The sweep: it makes tasks ready whose time has come, and gives every queue with work its tickets. It also replaces
lost tickets.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.dispatch import count_ready_by_queue, find_due, next_due, promote_due, what_to_do
from ledgerq_shared.statements.expire import expire, find_expired
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.apart import Apart
from ledgerq_worker.maintenance.loop import Duty, Round
from ledgerq_worker.maintenance.metrics import DutyMetrics

_BATCH = 1000
#: Seconds of rest after a round that promoted tasks. Tasks that become due meanwhile are promoted together, because
#: each round also wakes slots. After a round that found nothing, promoting rests only for a moment, in case the due
#: tasks were locked.
_GATHER = 0.1
_MOMENT = 0.005
#: Ready tasks are counted up to this number, which is more than any number of slots needs.
_COUNT_UP_TO = 1000


class Promote:
    """Makes tasks ready that have waited long enough: for an ETA, or for a retry's delay. Its next round is when the
    next task is due. If a task is held meanwhile that is due earlier, the sweep sees it.
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

    def _promote(self, tasks: list[str] | None) -> list[tuple[str]]:
        with self._database.transaction() as cursor:
            rows = execute(cursor, promote_due(limit=_BATCH, tasks=tasks))
            if not rows:
                self._wait_for(execute(cursor, next_due()))
        return rows

    def _wait_for(self, due: list[tuple[float | None]]) -> None:
        [(seconds,)] = due
        self.every = math.inf if seconds is None else max(seconds, self._rest)


class Sweep:
    """Looks at everything that may be due, in one small statement, so that an idle system costs next to nothing.

    It publishes the tickets that queues with ready tasks lack: Redis was emptied, a worker died, workers were added. It
    starts the other duties that would find something; each has its own schedule, and one that fails does not hold up
    others.

    Args:
        duties: the other duties, by their names in the ledger's answer: ``expire``, ``outbox``.
        promote: this duty is brought forward if something is due before the next sweep.
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
        """Look once. Tickets do not count as work done, so there is no second batch."""
        [found] = self._database.fetch(what_to_do(ahead=self.every))
        if found.wake:
            self._waker.wake(dict(self._database.fetch(count_ready_by_queue(up_to=_COUNT_UP_TO))))
        if found.promote:
            self._promote.bring_forward()
        is_due = found._asdict()
        for name, duty in self._rounds.items():
            if is_due[name]:
                duty.run_if_due(time.monotonic())
        return 0


class Expire:
    """Ends tasks that did not begin before their expiry."""

    name = "expire"

    def __init__(self, database: Database, *, every: float) -> None:
        self._database = database
        self.every = every
        self._apart = Apart(self.name, DutyMetrics(self.name).set_apart)

    def run_once(self) -> int:
        """Expire one batch."""
        return len(self._apart.run(lambda limit: self._database.fetch(find_expired(limit=limit)), self._expire))

    def _expire(self, tasks: list[str] | None) -> list[tuple[str]]:
        with self._database.transaction() as cursor:
            return execute(cursor, expire(limit=_BATCH, tasks=tasks))
