"""What the API does with tasks: it decides what a request means, gets that done, and puts the outcome into its wire
form.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Raw

from ledgerq_api.answers.ages import shown
from ledgerq_api.answers.pages import fitting
from ledgerq_api.catalogue import Catalogue
from ledgerq_api.catalogue_source import CatalogueSource
from ledgerq_api.ledger import Ledger
from ledgerq_api.tasks import schemas
from ledgerq_api.tasks.attempts import attempts_of
from ledgerq_api.tasks.listing import ListQuery, may_be_old, read_page
from ledgerq_api.tasks.long_poll import LongPoll
from ledgerq_api.tasks.reading import TaskReader
from ledgerq_shared.events import Event
from ledgerq_shared.process.tracing import Origin
from ledgerq_shared.statements.read_list import SummaryRow
from ledgerq_shared.statements.read_task import StatusRow
from ledgerq_shared.states import FINAL, State


class TaskService:
    """Follows and lists tasks."""

    def __init__(
        self,
        ledger: Ledger,
        catalogue: CatalogueSource,
        reader: TaskReader,
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._reader = reader
        self._long_poll = LongPoll()

    async def status(self, task_id: str) -> StatusRow:
        """The task's status."""
        return await self._reader.status(task_id)

    async def news(
        self, task_id: str, known_tag: bytes | None, *, seconds: float, check: Callable[[], Awaitable[None]]
    ) -> StatusRow:
        """The task's status, once the task has ended, there is news, or the time is over.

        Args:
            known_tag: the client's ``If-None-Match``; another tag is news.
            seconds: how long to wait at most.
            check: called now and then; it raises if the client may no longer wait.
        """

        def is_news(row: StatusRow) -> bool:
            return row.state in FINAL or (known_tag is not None and not matches(known_tag, row))

        return await self._long_poll.until(is_news, lambda: self._reader.status(task_id), seconds=seconds, check=check)

    async def status_answer(self, row: StatusRow) -> schemas.TaskStatus:
        """A status row in its wire form."""
        return schemas.TaskStatus(**_status_fields(row, await self._catalogue.current()))

    async def everything(self, task_id: str, *, prefix: str = "") -> schemas.TaskDetail:
        """Everything about one task.

        Args:
            prefix: the prefix of its links.
        """
        status, detail, events, is_whole = await self._reader.everything(task_id)
        origin = Origin.parse(detail.trace).log_fields()
        return schemas.TaskDetail(
            **_status_fields(status, await self._catalogue.current()),
            parameters=schemas.raw(detail.parameters),
            args=schemas.raw(detail.args),
            priority=detail.priority,
            expires_at=_utc(detail.expires_at),
            retries=detail.retries,
            max_retries=status.max_retries,
            worker_deaths=detail.worker_deaths,
            time_limit=detail.time_limit,
            soft_time_limit=detail.soft_time_limit,
            on_worker_lost=detail.on_worker_lost,
            terminate=detail.terminate,
            celery_id=detail.celery_id,
            metadata=schemas.raw(detail.metadata),
            tags=detail.tags or [],
            rerun_of=detail.rerun_of,
            reruns=detail.reruns,
            unique_key=detail.unique_key,
            request_id=origin.get("request_id"),
            trace_id=origin.get("trace_id"),
            attempts=attempts_of(events, is_whole=is_whole),
            attempts_truncated=not is_whole,
            links=schemas.Links(
                self=f"{prefix}/tasks/{status.id}",
                status=f"{prefix}/tasks/{status.id}/status",
                events=f"{prefix}/tasks/{status.id}/events",
                stream=f"{prefix}/tasks/{status.id}/stream",
                task_type=f"{prefix}/task-types/{status.task_type}",
                rerun_of=detail.rerun_of and f"{prefix}/tasks/{detail.rerun_of}",
                reruns=[f"{prefix}/tasks/{rerun}" for rerun in detail.reruns],
            ),
        )

    async def events(self, task_id: str, *, after: int, limit: int) -> schemas.EventPage:
        """A page of the task's history."""
        own_id, events = await self._reader.events(task_id, after=after, limit=limit + 1)
        entries = [event_entry(event) for event in events[:limit]]
        count, fitted = fitting(entries)
        return schemas.EventPage(
            task_id=own_id,
            events=fitted,
            next_cursor=str(entries[count - 1].seq) if count < len(events) else None,
        )

    async def list_page(self, query: ListQuery, *, actor: str) -> schemas.TaskPage:
        """A page of tasks.

        Args:
            actor: the caller; nobody has more than a few lists at a time.
        """
        query.check_reach()
        replica = self._ledger.replica
        is_settled = replica is not None and may_be_old(query, max_lag=replica.max_lag)
        page, as_of = await self._ledger.run_list(
            lambda cursor: read_page(cursor, query), actor=actor, may_be_old=is_settled
        )
        tasks = [_summary(row) for row in page.rows]
        count, fitted = fitting(tasks)
        has_more = page.has_more or count < len(tasks)
        return schemas.TaskPage(
            tasks=fitted,
            total_count=page.total,
            page=query.page if query.cursor is None else None,
            page_size=query.page_size,
            next_cursor=page.rows[count - 1].id if has_more else None,
            total_is_minimum=page.is_minimum,
            as_of=shown(as_of),
        )

    def stop_waiting(self) -> None:
        """Answer the clients that long-poll."""
        self._long_poll.stop()

    async def close(self) -> None:
        """Wait for work that has begun."""
        await self._reader.close()


def tag_of(row: StatusRow) -> bytes:
    """The ETag of a status; it changes with every event of the task."""
    return b'"%d"' % row.seq


def matches(if_none_match: bytes, row: StatusRow) -> bool:
    """Whether the client's ``If-None-Match`` names the present state of the row."""
    tag = tag_of(row)
    return any(candidate.strip().removeprefix(b"W/") in {tag, b"*"} for candidate in if_none_match.split(b","))


def _status_fields(row: StatusRow, catalogue: Catalogue) -> dict[str, Any]:
    task_type = catalogue.types.get(row.task_type)
    own = None if row.max_retries is None else row.max_retries + 1
    return {
        "task_id": row.id,
        "task_type": row.task_type,
        "status": State(row.state),
        "submitted_at": row.submitted_at.astimezone(UTC),
        "started_at": _utc(row.started_at),
        "completed_at": _utc(row.completed_at),
        "progress": _progress(row.progress, row.progress_status, row.progress_at),
        "result": schemas.raw(row.result),
        "error": schemas.raw_of_ours(row.error),
        "queue": row.queue,
        "attempt": row.attempt,
        "max_attempts": own if task_type is None else task_type.max_attempts(row.max_retries),
        "run_at": _utc(row.run_at),
        "worker": row.worker,
        "cancel_requested": row.cancel_requested_at is not None,
    }


def _summary(row: SummaryRow) -> schemas.TaskSummary:
    return schemas.TaskSummary(
        task_id=row.id,
        task_type=row.task_type,
        status=State(row.state),
        submitted_at=row.submitted_at.astimezone(UTC),
        started_at=_utc(row.started_at),
        completed_at=_utc(row.completed_at),
        progress=_progress(row.progress, row.progress_status, row.progress_at),
        queue=row.queue,
        priority=row.priority,
        attempt=row.attempt,
        run_at=_utc(row.run_at),
        cancel_requested=row.cancel_requested_at is not None,
        tags=row.tags or [],
    )


def event_entry(event: Event) -> schemas.EventEntry:
    """A step of a task's history in its wire form; its ``data`` was read as text."""
    return schemas.EventEntry(
        seq=event.seq,
        kind=event.kind,
        at=event.at.astimezone(UTC),
        attempt=event.attempt,
        actor=event.actor,
        data=_raw_data(event.data),
    )


def _raw_data(data: object) -> Raw:
    """``data`` as raw JSON: the reader asks for it as text, so that it is sent as it was written."""
    return schemas.raw_of_ours(None if data is None else str(data))


def _progress(percent: float | None, status: str | None, at: datetime | None) -> schemas.Progress | None:
    if percent is None or at is None:
        return None
    whole = int(percent)
    return schemas.Progress(whole if whole == percent else round(percent, 4), status, at.astimezone(UTC))


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
