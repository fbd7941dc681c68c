"""What somebody asked a node to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledgerq_worker.slot.table import SlotRecord, SlotTable


class CancelRequest(NamedTuple):
    """A task of this node whose cancellation was requested, under the claim that holds it."""

    claim_no: int
    task_id: str
    #: Whether the process that runs it may be killed.
    terminate: bool


def running(table: SlotTable, cancel_requests: Iterable[CancelRequest]) -> Iterator[tuple[SlotRecord, CancelRequest]]:
    """The cancel_requests whose task's code is running, each with its slot."""
    wanted = {(wish.claim_no, wish.task_id): wish for wish in cancel_requests}
    for record in table.read():
        wish = wanted.get((record.claim_no, record.task_id or ""))
        if wish is not None:
            yield record, wish
