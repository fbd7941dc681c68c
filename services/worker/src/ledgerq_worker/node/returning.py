"""Returns tasks of one node: those of slots whose process died or was killed, those of claims that the ledger still has
although their slots are done with them, and at the node's end all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from functools import partial
from uuid import UUID

import psycopg2
import structlog

from ledgerq_shared.errors import Unavailable
from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.postgres.repeating import any_refusal, tried, until_done
from ledgerq_shared.statements.recover import find_claims
from ledgerq_shared.statements.workers import end_worker
from ledgerq_worker.node.enforcement import Enforcement, Killed
from ledgerq_worker.node.lease import Lease
from ledgerq_worker.node.orphans import Orphans
from ledgerq_worker.node.parent import Parent
from ledgerq_worker.recovering import Loss, Recovering
from ledgerq_worker.slot.table import SlotTable

log = structlog.get_logger()

#: Seconds for which the agent tries to tell the ledger at the node's end.
_FAREWELL = 60.0


class Returning:
    """Returns tasks.

    Args:
        database: the agent's database, in which ``recovering`` takes the tasks back.
        lease: knows under which id the node holds its tasks, and whether the ledger has answered lately.
        enforcement: knows what was killed.
        orphans: finds the claims of slots that are done with them.
    """

    def __init__(
        self,
        database: Database,
        table: SlotTable,
        parent: Parent,
        lease: Lease,
        enforcement: Enforcement,
        recovering: Recovering,
        orphans: Orphans,
    ) -> None:
        self._database = database
        self._table = table
        self._parent = parent
        self._lease = lease
        self._enforcement = enforcement
        self._recovering = recovering
        self._orphans = orphans

    def return_dead(self) -> None:
        """Return the tasks of the slots of dead pool processes.

        The look at the processes decides. A report of a death may come late, when the slot has a new process; it may
        never come, if it was sent to an agent that died; and a drain may fail in a process that lives on. Tasks that
        cannot be returned now are found again.
        """
        dead = {record.slot for record in self._table.read() if not self._parent.has_child(record.pid)}
        # Read once more, because the process may have begun another task between the first reading and its death.
        for record in self._table.read():
            if record.slot in dead and record.slot not in self._enforcement.killed:
                self._enforcement.kill_remains(record)
                died = Killed(record, None, "the pool process died")
                tried(partial(self._take_back, died, charge=True), what="agent.slot")

    def return_killed(self) -> None:
        """Tell the ledger about killed tasks."""
        for slot, killed in list(self._enforcement.killed.items()):
            if tried(partial(self._take_back, killed, charge=killed.end is not None), what="agent.slot"):
                del self._enforcement.killed[slot]

    def return_orphans(self) -> None:
        """Return claims that the ledger has although their slots are done with them."""
        self._orphans.look()
        worker_id = self._lease.worker_id
        if worker_id is not None and self._lease.is_fresh and self._orphans.is_due:
            tried(partial(self._look_for_orphans, worker_id), what="agent.orphans")

    def return_all(self, why: str, *, charge: bool) -> None:
        """Return all tasks, because the node ends. Maintenance returns those that could not be returned in time, when
        the lease is over.

        Args:
            why: ``stopped`` or ``lost``.
            charge: whether the running tasks may be the reason.
        """
        killed = self._enforcement.killed.values()
        innocent = {one.record.slot for one in killed if one.end is None}
        suspects = [record.task_id for record in self._table.read() if record.task_id and record.slot not in innocent]
        worker_id = self._lease.worker_id
        if worker_id is None:
            return
        reason = f"the worker {why}" if why == "stopped" else "the worker process died"
        loss = Loss(
            worker_id, reason, suspects=suspects, charge=charge, is_whole_node=charge, begun=self._table.begun()
        )

        def end(cursor: Cursor, _: Collection[str] | None) -> Loss:
            execute(cursor, end_worker(worker_id=worker_id, why=why))
            for one in killed:
                if one.end is not None:
                    execute(cursor, one.end)
            return loss

        with contextlib.suppress(Unavailable, psycopg2.Error):
            until_done(
                lambda _: self._recovering.take_back_whole(loss, end),
                what="agent.farewell",
                seconds=_FAREWELL,
                outlasts=any_refusal,
            )

    def _take_back(self, lost: Killed, *, charge: bool) -> None:
        """Return the tasks of a dead process's slot; after that a new process may use the slot.

        Args:
            charge: whether the task that ran may be the reason.
        """
        record, worker_id = lost.record, self._lease.worker_id
        if worker_id is None:
            self._table.enter(record.slot, 0)
            return
        suspects = [record.task_id] if record.task_id else []
        begun = self._table.begun(record.slot)
        loss = Loss(worker_id, lost.why, slot=record.slot, suspects=suspects, charge=charge, begun=begun)

        def end(cursor: Cursor, tasks: Collection[str] | None) -> Loss:
            if lost.end is not None and (tasks is None or record.task_id in tasks):
                execute(cursor, lost.end)
            return loss

        # A task that PostgreSQL alone refuses stays in its claim: the slot goes on, and later the claim is an orphan.
        rows = self._recovering.take_back(loss, end)
        self._table.enter(record.slot, 0)
        if not rows and record.task_id is None:
            return  # nothing was lost: so end the processes of a node that stops
        log.warning("worker.slot.lost", slot=record.slot, pid=record.pid, task_id=record.task_id, tasks=len(rows))

    def _look_for_orphans(self, worker_id: UUID) -> None:
        claims = self._database.fetch(find_claims(worker_id))
        orphans = self._orphans.among(claims)
        if not orphans:
            return
        numbers = [claim.no for claim in orphans]
        loss = Loss(worker_id, "its slot was done with it", numbers=numbers)

        def those_that_are_still_there(cursor: Cursor, _: Collection[str] | None) -> Loss:
            held = execute(cursor, find_claims(worker_id))
            return loss._replace(numbers=[claim.no for claim in held if claim in orphans])

        rows = self._recovering.take_back(loss, those_that_are_still_there)
        if rows or not self._recovering.are_some_apart:  # a slot whose tasks are set apart is met again and again
            log.warning("worker.claims.returned", claims=sorted(numbers), tasks=len(rows))
