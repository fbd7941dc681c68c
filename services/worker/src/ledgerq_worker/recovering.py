"""The only way to take tasks back from claims whose owner will not end them. It works in a transaction and sets a task
apart that PostgreSQL alone refuses; after the commit it wakes slots for tasks that are ready again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple
from uuid import UUID

import structlog

from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.statements.recover import TakenBack, find_claimed, recover_claims
from ledgerq_shared.states import STARTABLE
from ledgerq_worker.apart import Apart

log = structlog.get_logger()


class Loss(NamedTuple):
    """Which claims are taken back, and what is known about the reason. The fields are as in :func:`recover_claims`."""

    worker_id: UUID
    #: A short reason for the events.
    why: str
    #: Only this slot's claims; None: all claims of the worker.
    slot: int | None = None
    #: Only the claims with these numbers; None: all.
    numbers: Collection[int] | None = None
    #: Tasks that are known to have been running; None: nobody could tell.
    suspects: Collection[str] | None = ()
    #: Whether the tasks that ran may be the reason.
    charge: bool = False
    is_whole_node: bool = False
    #: Tasks whose code the claims' slots have certainly begun, as ``(claim, task)``; they may have ended.
    begun: Collection[tuple[int, str]] = ()


#: Called in the same transaction before the claims are taken, with the tasks that are to be taken (None: all). Returns
#: the loss with what it has found out.
Before = Callable[[Cursor, Collection[str] | None], Loss]


class Recovering:
    """Takes tasks back.

    Args:
        wake: called after each commit with the number of tasks that are ready again, by queue.
        quarantine_after: worker deaths after which a task is quarantined.
        actor: the actor for the event log.
        what: the work, for the log.
        told: called with the number of tasks that are set apart, whenever it changes.
        behind: called in the same transaction, after the claims were taken.
    """

    def __init__(
        self,
        database: Database,
        wake: Callable[[Mapping[str, int]], object],
        *,
        quarantine_after: int,
        actor: str,
        what: str = "recover",
        told: Callable[[int], object] = lambda _: None,
        behind: Callable[[Cursor], object] = lambda _: None,
    ) -> None:
        self._database = database
        self._wake = wake
        self._quarantine_after = quarantine_after
        self._actor = actor
        self._behind = behind
        self._apart = Apart(what, told)

    @property
    def are_some_apart(self) -> bool:
        """Whether tasks are set apart: their claims are met again and again."""
        return bool(self._apart.ids)

    def take_back(self, loss: Loss, before: Before | None = None) -> list[TakenBack]:
        """Take back the tasks of these claims. A task that PostgreSQL alone refuses stays in its claim.

        Raises:
            Unavailable: PostgreSQL is away or busy.
            psycopg2.Error: all tasks are refused, and not because of one of them.
        """

        def find(limit: int) -> list[tuple[str]]:
            return self._database.fetch(
                find_claimed(worker_id=loss.worker_id, slot=loss.slot, numbers=loss.numbers, limit=limit)
            )

        return self._apart.run(find, lambda tasks: self._take(loss, before, tasks))

    def take_back_whole(self, loss: Loss, before: Before | None = None) -> list[TakenBack]:
        """As :meth:`take_back`, but in one transaction: all tasks or none.

        Raises:
            Unavailable: PostgreSQL is away or busy.
            psycopg2.Error: something in it is refused.
        """
        return self._take(loss, before, None)

    def _take(self, loss: Loss, before: Before | None, tasks: Collection[str] | None) -> list[TakenBack]:
        with self._database.transaction() as cursor:
            if before is not None:
                loss = before(cursor, tasks)
            rows = execute(
                cursor,
                recover_claims(
                    **loss._asdict(), tasks=tasks, quarantine_after=self._quarantine_after, actor=self._actor
                ),
            )
            self._behind(cursor)
        for row in rows:
            if row.is_quarantined:
                log.error(
                    "task.quarantined",
                    task_id=row.id,
                    task_type=row.task_type,
                    worker_deaths=row.worker_deaths,
                    why=loss.why,
                )
        self._wake(Counter(row.queue for row in rows if row.state in STARTABLE))
        return rows
