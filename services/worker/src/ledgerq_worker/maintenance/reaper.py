"""Takes tasks back from worker nodes whose lease has run out: liveness decides, never age."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import psycopg2
import structlog

from ledgerq_shared.errors import Unavailable
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.workers import LostWorker, declare_dead, find_lost_workers, prune_workers
from ledgerq_worker.maintenance.leader import Leadership
from ledgerq_worker.maintenance.metrics import DutyMetrics
from ledgerq_worker.recovering import Loss, Recovering

log = structlog.get_logger()

_FORGET_AFTER = 86_400.0


class Reap:
    """Declares nodes dead and takes their tasks back.

    Args:
        database: a connection pool of its own, so that it waits for no other duty.
        leadership: knows for how long PostgreSQL has answered. After an outage no node is declared dead before one full
            lease has passed, because no node could renew its lease in the outage.
        taken_back: called when tasks are ready again; their tickets are the sweep's.
    """

    name = "reap"

    def __init__(
        self,
        database: Database,
        leadership: Leadership,
        *,
        every: float,
        lease: float,
        quarantine_after: int,
        taken_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._leadership = leadership
        self._lease = lease
        self._recovering = Recovering(
            database,
            lambda ready: taken_back() if ready else None,
            quarantine_after=quarantine_after,
            actor="maintenance",
            what=self.name,
            told=DutyMetrics(self.name).set_apart,
        )
        self.every = every

    def run_once(self) -> int:
        """Declare nodes dead whose lease is over, in one transaction each, so that a failure with one node does not
        hold up others.

        Returns:
            How many tasks were taken back.
        """
        lost = self._database.fetch(find_lost_workers())
        if not lost or self._leadership.reachable_for() < self._lease:
            return 0
        return sum(map(self._take_back, lost))

    def _take_back(self, worker: LostWorker) -> int:
        worker_id = UUID(worker.id)
        try:
            with self._database.transaction() as cursor:
                if not execute(cursor, declare_dead(worker_id=worker_id, lease_until=worker.lease_until)):
                    return 0
            # This is a separate statement after the commit, so that it sees every claim that the worker made before it
            # was declared dead.
            rows = self._recovering.take_back(
                Loss(worker_id, "lease expired", suspects=None, charge=True, is_whole_node=True)
            )
        except (psycopg2.Error, Unavailable) as error:
            if isinstance(error, Unavailable) and not error.is_busy:
                raise
            log.warning("maintenance.worker_not_taken_back", worker=worker.name, error=str(error).strip())
            return 0
        if rows or not self._recovering.are_some_apart:  # a node whose tasks are set apart is met again and again
            log.warning("worker.lost", worker=worker.name, why="lease expired", tasks=len(rows))
        return len(rows)


class ForgetWorkers:
    """Deletes the rows of nodes that ended a day ago."""

    name = "forget_workers"
    every = 600.0

    def __init__(self, database: Database) -> None:
        self._database = database

    def run_once(self) -> int:
        """Delete them with one statement."""
        with self._database.transaction() as cursor:
            execute(cursor, prune_workers(older_than=_FORGET_AFTER))
        return 0
