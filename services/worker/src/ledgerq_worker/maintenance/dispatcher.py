"""The sweep: what came due becomes ready, and every queue with work has its tickets. It is the recovery from lost ones."""

from __future__ import annotations

from ledgerq_shared.broker import Broker
from ledgerq_shared.database import Database, execute
from ledgerq_shared.statements.dispatch import expire, promote_due, queues_with_work

_BATCH = 1000
#: Ready tasks are counted up to here: more than any number of slots needs.
_COUNT_UP_TO = 1000


class Promote:
    """Makes ready what has waited long enough: an ETA, a retry's delay."""

    name = "promote"

    def __init__(self, database: Database, broker: Broker, *, every: float) -> None:
        self._database = database
        self._broker = broker
        self.every = every

    def run_once(self) -> int:
        """Promote one batch and wake its queues."""
        with self._database.transaction() as cursor:
            queues = [row[0] for row in execute(cursor, promote_due(limit=_BATCH))]
        for queue in set(queues):
            self._broker.wake(queue, queues.count(queue), 1)
        return len(queues)


class Sweep:
    """Publishes the tickets that queues with ready tasks lack: Redis was emptied, a worker died, workers were added."""

    name = "sweep"

    def __init__(self, database: Database, broker: Broker, *, every: float) -> None:
        self._database = database
        self._broker = broker
        self.every = every

    def run_once(self) -> int:
        """One look at all queues. Tickets are no work done: there is no second batch."""
        with self._database.transaction() as cursor:
            queues = execute(cursor, queues_with_work(count_up_to=_COUNT_UP_TO))
        for queue, ready, slots in queues:
            self._broker.wake(queue, ready, slots)
        return 0


class Expire:
    """Ends what was not begun before its expiry."""

    name = "expire"

    def __init__(self, database: Database, *, every: float) -> None:
        self._database = database
        self.every = every

    def run_once(self) -> int:
        """Expire one batch."""
        with self._database.transaction() as cursor:
            return len(execute(cursor, expire(limit=_BATCH)))
