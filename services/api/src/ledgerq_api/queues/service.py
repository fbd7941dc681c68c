"""What the API says about queues."""

from __future__ import annotations

from collections import defaultdict

from msgspec import structs

from ledgerq_api.answers.ages import shown
from ledgerq_api.ledger import Ledger
from ledgerq_api.queues.schemas import QueueEntry, QueueList
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.read_queues import count_queues, queue_counts, read_queues
from ledgerq_shared.states import State


class QueueService:
    """Shows queues."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def list_page(self, *, after: str, limit: int) -> QueueList:
        """The first queues whose names come after ``after``."""
        page, as_of = await self._ledger.look(lambda cursor: _read(cursor, after, limit))
        return structs.replace(page, as_of=shown(as_of))


def _read(cursor: Cursor, after: str, limit: int) -> QueueList:
    [(total,)] = execute(cursor, count_queues())
    rows = execute(cursor, read_queues(after=after, limit=limit + 1))
    page, more = rows[:limit], rows[limit:]
    counts: dict[str, dict[State, int]] = defaultdict(lambda: dict.fromkeys(State, 0))
    for queue, state, count in execute(cursor, queue_counts([row.name for row in page])):
        counts[queue][State(state)] = count
    entries = [
        QueueEntry(
            name=row.name,
            paused=row.is_paused,
            counts=counts[row.name],
            oldest_ready_seconds=row.oldest_ready_seconds,
            worker_slots=row.slots,
        )
        for row in page
    ]
    return QueueList(queues=entries, total_count=total, next_cursor=page[-1].name if more else None)
