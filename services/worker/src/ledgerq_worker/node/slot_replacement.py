"""Replaces slots that stand still (:mod:`ledgerq_worker.node.slot_standstill` says which those are)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from ledgerq_shared.postgres.database import Database
from ledgerq_shared.statements.workers import do_writes_wait
from ledgerq_worker.node.enforcement import Enforcement
from ledgerq_worker.node.killing import is_stopped
from ledgerq_worker.node.lease import Lease
from ledgerq_worker.node.parent import Parent
from ledgerq_worker.node.slot_standstill import Standstill
from ledgerq_worker.slot.table import SlotRecord, SlotTable

log = structlog.get_logger()


class StuckSlots:
    """Looks after the slots of one node.

    Args:
        lease: knows whether the ledger has answered lately.
        enforcement: ends processes.
        is_prefork: whether slots have processes of their own.
        stopped_for: a process that a signal has stopped for this many seconds stands still.
    """

    def __init__(
        self,
        database: Database,
        table: SlotTable,
        parent: Parent,
        lease: Lease,
        enforcement: Enforcement,
        *,
        is_prefork: bool,
        stopped_for: float,
    ) -> None:
        self._database = database
        self._table = table
        self._parent = parent
        self._lease = lease
        self._enforcement = enforcement
        self._is_prefork = is_prefork
        self._standstill = Standstill(stopped_for=stopped_for)

    def replace(self, now: float) -> None:
        """Replace the slots that stand still; ``now`` is the monotonic clock. While PostgreSQL is away, while COMMITs
        wait for a standby, or while the node is stopped, no slot is at fault.

        Raises:
            Unavailable: PostgreSQL is away.
        """
        if not self._lease.is_fresh or self._parent.is_stopped():
            self._standstill.forget()
            return
        records = [record for record in self._table.read() if record.is_draining or self._is_prefork]
        standing = self._standstill.look(records, now, is_stopped=self._is_stopped)
        # A lease is renewed without the standby, but a result is not recorded without it, so only the slot waits.
        if standing and self._database.fetch(do_writes_wait()) == [(True,)]:
            self._standstill.forget()
            return
        if self._is_prefork:
            for record in standing:
                self._enforcement.replace(record)
        elif standing:
            self._end_unfit_node(standing)

    def _is_stopped(self, pid: int) -> bool:
        return self._is_prefork and is_stopped(pid) and self._parent.has_child(pid)

    def _end_unfit_node(self, standing: Sequence[SlotRecord]) -> None:
        """Threads share a process, so end it only when all of them stand still."""
        is_whole = len(standing) == self._table.count
        log.error(
            "worker.slot.stuck",
            slots=[record.slot for record in standing],
            what="all slots do nothing they should: the node is killed"
            if is_whole
            else "restart this worker to mend it",
        )
        self._standstill.forget()
        if is_whole:
            self._parent.kill()
