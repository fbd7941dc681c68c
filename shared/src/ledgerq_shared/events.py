"""Reading the event log: one stored row may stand for up to three steps of a task's history.

A task that takes less than a flush is claimed, begun and ended before the ledger hears of any of it. Its three steps
are then one row, `succeeded` with ``claimed_at`` and ``started_at``: a third of the writing, nothing lost. This module
is the only one that knows; readers see a gapless sequence of single steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One step of a task's history."""

    #: Counts from 1 within the task, without gaps; also the id of its server-sent event.
    seq: int
    at: datetime
    #: submitted, dispatched, started, progress, log, retried, replaced, succeeded, failed, revoked, recovered,
    #: resubmitted, cancel_requested, late_write_refused or delivery_failed.
    kind: str
    #: Number of the execution it belongs to; 0 before the first.
    attempt: int
    #: Who did it: ``api``, ``key:<id>``, ``client``, ``worker:<name>``, ``maintenance``.
    actor: str
    data: dict[str, Any] | None


class StoredEvent(NamedTuple):
    """A row of ``task_event``, in the order of its columns."""

    seq: int
    at: datetime
    kind: str
    attempt: int
    actor: str
    claimed_at: datetime | None
    started_at: datetime | None
    data: dict[str, Any] | None


def expand(rows: Iterable[StoredEvent]) -> Iterator[Event]:
    """The history that stored rows stand for, in order."""
    for row in rows:
        before = (row.claimed_at is not None) + (row.started_at is not None)
        if row.claimed_at is not None:
            yield Event(row.seq - before, row.claimed_at, "dispatched", max(row.attempt - 1, 0), row.actor, None)
        if row.started_at is not None:
            yield Event(row.seq - 1, row.started_at, "started", row.attempt, row.actor, None)
        yield Event(row.seq, row.at, row.kind, row.attempt, row.actor, row.data)
