"""Tasks that somebody asked a node to end."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from ledgerq_shared.postgres.database import Database
from ledgerq_shared.statements.cancel import CancelRequest, find_cancel_requests, read_signals
from ledgerq_worker.slot.table import SlotRecord, SlotTable


class CancelRequests:
    """The requests to end tasks that a node holds, as of its last look.

    Args:
        table: the node's slot table.
    """

    def __init__(self, table: SlotTable) -> None:
        self._table = table
        self._requests: list[CancelRequest] = []
        #: By task: the signal with which it is to be asked before it is killed.
        self.signals: dict[str, int] = {}

    def look(self, database: Database, worker_id: UUID) -> None:
        """Read the requests from the ledger: tell the tasks that run, and let no other of them begin."""
        is_busy = self._table.has_busy_slot
        requests = database.fetch(find_cancel_requests(worker_id=worker_id)) if is_busy else []
        terminated = [request.task_id for request in requests if request.terminate]
        # First the signals: another thread, which kills, must not see a request without its signal.
        self.signals = dict(database.fetch(read_signals(terminated))) if terminated else {}
        self._requests = requests
        self._table.list_cancelled((request.claim_no, request.task_id) for request in self._requests)
        for record, request in self.running():
            self._table.flag_cancelled(record.slot, request.claim_no, request.task_id)

    def running(self) -> Iterator[tuple[SlotRecord, CancelRequest]]:
        """The requests whose task's code is running, each with its slot."""
        wanted = {(request.claim_no, request.task_id): request for request in self._requests}
        for record in self._table.read():
            request = wanted.get((record.claim_no, record.task_id or ""))
            if request is not None:
                yield record, request
