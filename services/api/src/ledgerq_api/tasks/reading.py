"""Read tasks one by one: statuses in batches, everything, history."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ledgerq_api.ledger import Deadline, Ledger, no_answer
from ledgerq_shared.batching import AsyncBatcher
from ledgerq_shared.database import execute, type_cursor
from ledgerq_shared.errors import LedgerQError, TaskNotFound
from ledgerq_shared.events import Event, StoredEvent, expand
from ledgerq_shared.statements.read_task import (
    ATTEMPT_KINDS,
    DetailRow,
    StatusRow,
    read_events,
    read_statuses,
    read_task,
)

_MOST_STATUSES = 500
_MOST_ATTEMPTS = 1000
_STATUS_FIELDS = len(StatusRow._fields)


class TaskReader:
    """Reads single tasks. Status reads that arrive during one query share the next."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="status")
        self._statuses: AsyncBatcher[str, StatusRow] = AsyncBatcher(
            self._read_statuses, max_items=_MOST_STATUSES, executor=self._thread
        )
        self._deadline = Deadline(ledger.timeout, lambda _: no_answer(ledger.timeout))

    def status(self, task_id: str) -> asyncio.Future[StatusRow]:
        """The task's row.

        Raises:
            TaskNotFound, LedgerUnavailable
        """
        return self._deadline.watch(self._statuses.submit(task_id))

    async def everything(self, task_id: str) -> tuple[StatusRow, DetailRow, list[Event]]:
        """The task's rows, and the events that begin or end its attempts."""

        def work(cursor: type_cursor) -> tuple[StatusRow, DetailRow, list[Event]]:
            row = _one(task_id, execute(cursor, read_task(task_id)))
            status = StatusRow(*row[:_STATUS_FIELDS])
            stored = execute(
                cursor,
                read_events(
                    task_id,
                    submitted_at=status.submitted_at,
                    after=0,
                    limit=_MOST_ATTEMPTS,
                    kinds=ATTEMPT_KINDS,
                ),
            )
            return (
                status,
                DetailRow(*row[_STATUS_FIELDS:]),
                list(expand(StoredEvent(*event) for event in stored)),
            )

        return await self._ledger.run(work)

    async def events(self, task_id: str, *, after: int, limit: int) -> list[Event]:
        """The first ``limit`` events whose ``seq`` is above ``after``."""

        def work(cursor: type_cursor) -> list[Event]:
            status = StatusRow(*_one(task_id, execute(cursor, read_statuses([task_id]))))
            statement = read_events(task_id, submitted_at=status.submitted_at, after=after, limit=limit)
            steps = expand(StoredEvent(*event) for event in execute(cursor, statement))
            # A stored row may stand for steps that an earlier page has shown.
            return [event for event in steps if event.seq > after][:limit]

        return await self._ledger.run(work)

    async def close(self) -> None:
        """Let what has begun end."""
        await self._statuses.close()
        self._thread.shutdown(wait=False)

    def _read_statuses(self, ids: list[str]) -> list[StatusRow | LedgerQError]:
        rows = self._ledger.repeatable(lambda cursor: execute(cursor, read_statuses(set(ids))))
        found = {row[0]: StatusRow._make(row) for row in rows}
        return [found.get(task_id) or _not_found(task_id) for task_id in ids]


def _one(task_id: str, rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    if not rows:
        raise _not_found(task_id)
    return rows[0]


def _not_found(task_id: str) -> TaskNotFound:
    return TaskNotFound(f"No task has the id {task_id}.")
