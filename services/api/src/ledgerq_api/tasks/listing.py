"""Lists of tasks: the filters, the page, and how many tasks there are in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

import psycopg2.errors
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from ledgerq_api.answers.errors import QueryTooSlow
from ledgerq_shared.errors import InvalidRequest
from ledgerq_shared.ids import new_task_id, time_of
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.read_counts import StateCount, in_state, sum_counts
from ledgerq_shared.statements.read_list import SummaryRow, count_tasks, list_tasks
from ledgerq_shared.statements.walks import TaskFilter, goes_either_way, is_shorter_along_successes
from ledgerq_shared.states import State

#: The last row that pages by number may reach, and how far tasks are counted for filters without counters.
REACH = 10_000

#: An id is made before its commit, by another machine's clock. After this time the task is in the ledger, or never will
#: be.
_COMMITTED_WITHIN = timedelta(seconds=60)

_EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
_LAST = datetime(9000, 1, 1, tzinfo=UTC)

_Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]


class ListQuery(BaseModel):
    """The query string of `GET /tasks/`."""

    model_config = ConfigDict(extra="forbid")

    page: Annotated[int, Field(ge=1, le=REACH, description="Page, from 1.")] = 1
    page_size: Annotated[int, Field(ge=1, le=1000, description="Tasks a page.")] = 10
    task_type: Annotated[_Text | None, Field(description="Full dotted name; without dots, the last part of it.")] = None
    status: Annotated[State | None, Field(description="Only tasks in this state.")] = None
    queue: Annotated[_Text | None, Field(description="Only tasks of this queue.")] = None
    tag: Annotated[_Text | None, Field(description="Only tasks with this tag.")] = None
    submitted_after: Annotated[AwareDatetime | None, Field(description="At or after this moment.")] = None
    submitted_before: Annotated[AwareDatetime | None, Field(description="Before this moment.")] = None
    cursor: Annotated[UUID | None, Field(description="`next_cursor` of the page before.")] = None

    @field_validator("submitted_after", "submitted_before")
    @classmethod
    def _within_reason(cls, moment: datetime | None) -> datetime | None:
        # Converted to UTC, because PostgreSQL knows no offset beyond 15:59.
        return None if moment is None else min(max(moment, _EPOCH), _LAST).astimezone(UTC)

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        if self.cursor is not None and self.page != 1:
            raise ValueError("page cannot be given together with cursor")
        return self

    def check_reach(self) -> None:
        """Refuse pages for which PostgreSQL would have to skip too many rows."""
        if self.cursor is None and self.page * self.page_size > REACH:
            reason = f"pages reach to row {REACH:,}; use cursor (next_cursor of the page before) to go further"
            raise InvalidRequest(
                say("page: {reason}.", reason=reason), errors=[{"detail": reason, "parameter": "page"}]
            )


def may_be_old(query: ListQuery, *, max_lag: float) -> bool:
    """Whether a replica may answer: a client that goes on from a page must not find less than the server that gave that
    page.

    The primary may have answered the page before. Everything behind a cursor of some age has long been committed and
    replayed. What a page number means shifts with each new task, so from the second page on the primary answers pages
    by number.

    Args:
        max_lag: how old the replica's data may be, in seconds.
    """
    if query.cursor is None:
        return query.page == 1
    made_at, now = time_of(query.cursor), time_of(new_task_id())
    return made_at is not None and now is not None and now - made_at > _COMMITTED_WITHIN + timedelta(seconds=max_lag)


class ListedPage:
    """What a look at the ledger returned."""

    def __init__(self, rows: list[SummaryRow], total: int, *, is_minimum: bool, has_more: bool) -> None:
        self.rows = rows
        self.total = total
        self.is_minimum = is_minimum
        self.has_more = has_more


def read_page(cursor: Cursor, query: ListQuery) -> ListedPage:
    """Count and read. The caller has bounded how long a statement may take.

    Raises:
        QueryTooSlow: it took longer than a list may take.
    """
    try:
        return _read(cursor, query)
    except psycopg2.errors.QueryCanceled:
        raise QueryTooSlow from None


def _read(cursor: Cursor, query: ListQuery) -> ListedPage:
    counts = execute(cursor, sum_counts(task_type=query.task_type, queue=query.queue))
    filter_ = _filter_of(query, counts)
    retrying = in_state(counts, State.RETRY)
    along_successes = True
    if goes_either_way(filter_):
        successes = in_state(execute(cursor, sum_counts(task_type=None, queue=None)), State.SUCCESS)
        along_successes = is_shorter_along_successes(counts, successes=successes, limit=query.page_size + 1)
    total = sum(one.tasks for one in counts if query.status in {None, one.state})
    is_minimum = False
    if total and not filter_.is_counted:
        counting = count_tasks(filter_, limit=REACH + 1, retrying=retrying, along_successes=along_successes)
        [(total,)] = execute(cursor, counting)
        is_minimum = total > REACH
        total = min(total, REACH)
    if not total:
        return ListedPage([], 0, is_minimum=False, has_more=False)
    offset = 0 if query.cursor is not None else (query.page - 1) * query.page_size
    statement = list_tasks(
        filter_, limit=query.page_size + 1, offset=offset, retrying=retrying, along_successes=along_successes
    )
    found = execute(cursor, statement)
    page, more = found[: query.page_size], found[query.page_size :]
    return ListedPage(page, total, is_minimum=is_minimum, has_more=bool(more))


def _filter_of(query: ListQuery, counts: Sequence[StateCount]) -> TaskFilter:
    """The filter, with a short type name replaced by the full names that are in the counters."""
    filter_ = TaskFilter(
        state=query.status,
        queue=query.queue,
        tag=query.tag,
        submitted_after=query.submitted_after,
        submitted_before=query.submitted_before,
        before_id=None if query.cursor is None else str(query.cursor),
    )
    if query.task_type is None:
        return filter_
    return replace(filter_, task_types=sorted({one.task_type for one in counts}))
