"""Reads single tasks: their status (in batches), everything about them, their history.

A task is found by its own id or, if it was adopted from a Celery producer, by the id that Celery knows it by, which may
be any text. The second id is tried only if nothing is found by the first.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from ledgerq_api import metrics
from ledgerq_api.answers.pages import MOST_BYTES
from ledgerq_api.ledger import Deadline, Ledger, no_answer
from ledgerq_shared.errors import LedgerQError, TaskNotFound
from ledgerq_shared.events import Event, expand
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.process.batching import AsyncBatcher
from ledgerq_shared.sql import Row, Statement
from ledgerq_shared.statements.read_task import (
    ATTEMPT_KINDS,
    DetailRow,
    StatusRow,
    find_task,
    read_events,
    read_statuses,
    read_statuses_by_celery_id,
    read_task,
)

_MOST_STATUSES = 500
#: How many stored events are read for a task's attempts.
_MOST_ATTEMPTS = 1000

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_SURROGATE = re.compile("[\ud800-\udfff]")

#: Longer than any id that the ledger keeps.
_LONGEST_ID = 2000
#: How many characters of an unknown id an answer repeats.
_SHOWN = 512


class _Fetch(Protocol):
    """Runs a statement."""

    def __call__(self, statement: Statement[Row], /) -> list[Row]: ...


class TaskReader:
    """Reads single tasks. Status reads that arrive during one query share the next one."""

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

    async def everything(self, task_id: str) -> tuple[StatusRow, DetailRow, list[Event], bool]:
        """The task's rows; the first events that begin or end its attempts, without ``data``; and whether these are
        all.
        """

        def work(cursor: Cursor) -> tuple[StatusRow, DetailRow, list[Event], bool]:
            rows = execute(cursor, read_task(task_id)) if _UUID.fullmatch(task_id) else []
            status, detail = the_one(task_id, rows or execute(cursor, read_task(own_id(cursor, task_id))))
            stored = execute(
                cursor,
                read_events(
                    status.id,
                    submitted_at=status.submitted_at,
                    after=0,
                    limit=_MOST_ATTEMPTS + 1,
                    kinds=ATTEMPT_KINDS,
                    with_data=False,
                ),
            )
            return status, detail, list(expand(stored[:_MOST_ATTEMPTS])), len(stored) <= _MOST_ATTEMPTS

        return await self._ledger.run(work)

    async def events(self, task_id: str, *, after: int, limit: int) -> tuple[str, list[Event]]:
        """The task's own id, and the first ``limit`` events whose ``seq`` is above ``after``: fewer if they are larger
        than a page, but then at least one more than fits into a page.
        """

        def work(cursor: Cursor) -> tuple[str, list[Event]]:
            status = _read(cursor, task_id)
            statement = read_events(
                status.id, submitted_at=status.submitted_at, after=after, limit=limit, most_bytes=MOST_BYTES
            )
            # A stored row may also stand for steps that an earlier page has shown.
            steps = [event for event in expand(execute(cursor, statement)) if event.seq > after]
            return status.id, steps[:limit]

        return await self._ledger.run(work)

    async def close(self) -> None:
        """Wait for reads that have begun."""
        await self._statuses.close()
        self._thread.shutdown(wait=False)

    def _read_statuses(self, ids: list[str]) -> list[StatusRow | LedgerQError]:
        with metrics.flush("status", len(ids)):
            found = _find(self._ledger.rows, set(ids))
        return [found.get(task_id) or not_found(task_id) for task_id in ids]


def _read(cursor: Cursor, task_id: str) -> StatusRow:
    """As :func:`_find`, but the task must exist."""
    found = _find(partial(execute, cursor), [task_id]).get(task_id)
    if found is None:
        raise not_found(task_id)
    return found


def _find(fetch: _Fetch, ids: Collection[str]) -> dict[str, StatusRow]:
    """Rows, by the id that the caller asked for; ``fetch`` runs a statement."""
    own = {task_id: task_id.lower() for task_id in ids if _UUID.fullmatch(task_id)}
    rows = {row.id: row for row in fetch(read_statuses(set(own.values())))} if own else {}
    found = {task_id: rows[own_id] for task_id, own_id in own.items() if own_id in rows}
    others = [task_id for task_id in ids if task_id not in found and _may_be_celerys(task_id)]
    if others:
        found |= fetch(read_statuses_by_celery_id(others))
    return found


def own_id(cursor: Cursor, task_id: str) -> str:
    """The task's own id, whichever of its ids was given.

    Raises:
        TaskNotFound
    """
    own = task_id.lower() if _UUID.fullmatch(task_id) else None
    rows = execute(cursor, find_task(task_id=own, celery_id=task_id)) if _may_be_celerys(task_id) else []
    return the_one(task_id, rows)[0]


def _may_be_celerys(task_id: str) -> bool:
    """Whether PostgreSQL could hold this id at all: it has no NUL and no lone surrogate."""
    return len(task_id) <= _LONGEST_ID and "\0" not in task_id and not _SURROGATE.search(task_id)


def the_one(task_id: str, rows: Sequence[Row]) -> Row:
    """The task's row.

    Raises:
        TaskNotFound: there is none.
    """
    if not rows:
        raise not_found(task_id)
    return rows[0]


def not_found(task_id: str) -> TaskNotFound:
    """The error for a client that asked for this id."""
    return TaskNotFound(say("No task has the id {task_id}.", task_id=task_id[:_SHOWN]))
