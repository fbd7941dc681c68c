"""Opens streams."""

from __future__ import annotations

from ledgerq_api.stream.feed import Feed, Subscription
from ledgerq_api.tasks.reading import TaskReader
from ledgerq_shared.states import FINAL


class StreamService:
    """Lets clients follow tasks.

    Args:
        reader: finds tasks, also by the ids of Celery producers.
    """

    def __init__(self, reader: TaskReader, feed: Feed) -> None:
        self._reader = reader
        self.feed = feed

    async def open(self, task_id: str, seen: int) -> Subscription | None:
        """Follow a task from the event after ``seen`` on; None: there is no such event and never will be.

        Raises:
            TaskNotFound, LedgerUnavailable
        """
        row = await self._reader.status(task_id)
        if row.state in FINAL and seen >= row.seq:
            return None
        return self.feed.subscribe(row.id, min(seen, row.seq))
