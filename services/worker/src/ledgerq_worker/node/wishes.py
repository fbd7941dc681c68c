"""What somebody asked a node to end, and what is written when a task is ended with its process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.record import end_from_outside
from ledgerq_shared.states import State
from ledgerq_worker.drain.encoding import to_json
from ledgerq_worker.node.slots import SlotRecord, SlotTable


class Wish(NamedTuple):
    """A task of this node whose cancellation was requested, under the claim that holds it."""

    claim_no: int
    task_id: str
    #: Whether the process that runs it may be killed.
    terminate: bool


def running(table: SlotTable, wishes: Iterable[Wish]) -> Iterator[tuple[SlotRecord, Wish]]:
    """The wishes whose task's code is running, each with its slot."""
    wanted = {(wish.claim_no, wish.task_id): wish for wish in wishes}
    for record in table.read():
        wish = wanted.get((record.claim_no, record.task_id or ""))
        if wish is not None:
            yield record, wish


def record_termination(record: SlotRecord, *, actor: str) -> Statement:
    """REVOKED for the task in this slot, guarded by its claim like every write."""
    assert record.task_id is not None
    return end_from_outside(
        task_id=record.task_id,
        claim_no=record.claim_no,
        state=State.REVOKED,
        error=None,
        data=to_json({"reason": "cancelled", "terminated": True}),
        actor=actor,
    )
