"""Takes tasks back from worker nodes whose lease has run out: liveness decides, never age."""

from __future__ import annotations

import structlog

from ledgerq_shared.broker import Broker
from ledgerq_shared.database import Database, execute
from ledgerq_shared.statements.recover import recover_claims
from ledgerq_shared.statements.workers import declare_dead, find_lost_workers, prune_workers
from ledgerq_worker.maintenance.leader import Leadership

log = structlog.get_logger()

_FORGET_AFTER = 86_400.0


class Reap:
    """Declares nodes dead and returns what they held.

    Args:
        leadership: knows for how long PostgreSQL has answered. After an outage nobody is declared dead before one full
            lease has passed, for in the outage nobody could renew one.
    """

    name = "reap"

    def __init__(
        self,
        database: Database,
        broker: Broker,
        leadership: Leadership,
        *,
        every: float,
        lease: float,
        quarantine_after: int,
    ) -> None:
        self._database = database
        self._broker = broker
        self._leadership = leadership
        self._lease = lease
        self._quarantine_after = quarantine_after
        self.every = every

    def run_once(self) -> int:
        """Declare dead whose lease is over; one transaction for each, so that one failure holds up no other."""
        if self._leadership.reachable_for() < self._lease:
            return 0
        with self._database.transaction() as cursor:
            lost = execute(cursor, find_lost_workers())
        for worker_id, name in lost:
            with self._database.transaction() as cursor:
                is_dead = bool(execute(cursor, declare_dead(worker_id=worker_id)))
            if not is_dead:
                continue
            # A statement of its own after the commit: it sees every claim that the worker made before it was dead.
            with self._database.transaction() as cursor:
                rows = execute(
                    cursor,
                    recover_claims(
                        worker_id=worker_id,
                        suspects=None,
                        quarantine_after=self._quarantine_after,
                        why="lease expired",
                        actor="maintenance",
                    ),
                )
            log.warning("maintenance.worker_lost", worker=name, tasks=len(rows))
            for queue in {queue for _, queue, _ in rows}:
                self._broker.wake(queue, len(rows), len(rows))
        return 0


class ForgetWorkers:
    """Deletes the rows of nodes that ended a day ago."""

    name = "forget_workers"
    every = 600.0

    def __init__(self, database: Database) -> None:
        self._database = database

    def run_once(self) -> int:
        """One statement does it."""
        with self._database.transaction() as cursor:
            execute(cursor, prune_workers(older_than=_FORGET_AFTER))
        return 0
