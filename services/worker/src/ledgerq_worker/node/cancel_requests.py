"""Tasks that somebody asked a node to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ledgerq_shared.statements.workers import CancelRequest
from ledgerq_worker.slot.table import SlotRecord, SlotTable


def running(table: SlotTable, cancel_requests: Iterable[CancelRequest]) -> Iterator[tuple[SlotRecord, CancelRequest]]:
    """The requests whose task's code is running, each with its slot."""
    wanted = {(wish.claim_no, wish.task_id): wish for wish in cancel_requests}
    for record in table.read():
        wish = wanted.get((record.claim_no, record.task_id or ""))
        if wish is not None:
            yield record, wish
