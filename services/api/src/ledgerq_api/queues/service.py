"""What the API says about queues."""

from __future__ import annotations

from collections import defaultdict

from ledgerq_api.ledger import Ledger
from ledgerq_api.queues.schemas import QueueEntry, QueueList
from ledgerq_shared.database import execute, type_cursor
from ledgerq_shared.statements.read_queues import queue_counts, read_queues
from ledgerq_shared.states import State


class QueueService:
    """Shows queues."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def list_all(self) -> QueueList:
        """All queues."""
        entries = await self._ledger.run(_read)
        return QueueList(queues=entries, total_count=len(entries))


def _read(cursor: type_cursor) -> list[QueueEntry]:
    counts: dict[str, dict[State, int]] = defaultdict(lambda: dict.fromkeys(State, 0))
    for queue, state, count in execute(cursor, queue_counts()):
        counts[queue][State(state)] = count
    return [
        QueueEntry(name=name, paused=paused, counts=counts[name], oldest_ready_seconds=oldest, worker_slots=slots)
        for name, paused, slots, oldest in execute(cursor, read_queues())
    ]
