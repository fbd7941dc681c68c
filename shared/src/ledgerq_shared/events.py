"""Reading the event log: one stored row may stand for up to three steps of a task's history.

A task that takes less time than a flush is claimed, begun and ended before the ledger hears of any of these steps. The
three steps are then one row, `succeeded` with ``claimed_at`` and ``started_at``: this is a third of the writing, and
nothing is lost. Only this module knows about it; readers see a gapless sequence of single steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Self


class EventKind(StrEnum):
    """What happened to a task, as stored in ``task_event.kind`` and sent on the wire."""

    SUBMITTED = "submitted", "The task was accepted: it is committed in PostgreSQL.", "–"
    DISPATCHED = "dispatched", "A worker has claimed it; its code has not begun.", "–"
    STARTED = "started", "Its code began.", "–"
    PROGRESS = (
        "progress",
        "It reported progress. What is written is throttled; the last value is always there.",
        "`progress`, `status`",
    )
    LOG = "log", "It added a line by `self.log(…)`.", "`message` and what the task gave"
    RETRIED = "retried", "An attempt ended in a retry.", "`error`, `retries`; or `rejected`, `requeue`"
    REPLACED = "replaced", "It was replaced by another task under the same id (`self.replace`).", "`replaced_by`"
    SUCCEEDED = "succeeded", "Its code returned.", "–, or `ignored` after `raise Ignore()`"
    FAILED = "failed", "It failed; `error` of the task says why.", "–; `limit`, `seconds`; or as for `recovered`"
    REVOKED = "revoked", "It was cancelled or expired.", "`reason`"
    RECOVERED = (
        "recovered",
        "Its worker died; it waits to run again.",
        "`reason`, `why`, `claim`, `charged`, `worker_deaths`",
    )
    RESUBMITTED = "resubmitted", "A person had it run again under the same id.", "–"
    CANCEL_REQUESTED = "cancel_requested", "Somebody asked for its cancellation.", "–"
    LATE_WRITE_REFUSED = (
        "late_write_refused",
        "A superseded claim tried to write; nothing was changed.",
        "`claim`, `write`",
    )

    DELIVERY_FAILED = (
        "delivery_failed",
        "What Celery owes somebody after its end failed, or was given up after three attempts that did not come to an end.",
        "`what` (`outcome`: errbacks, the chord, the chain; `message`: a task of somebody else's), `attempts`, `error`",
    )

    #: A sentence for people; the reference is made from it.
    meaning: str
    #: What the event's ``data`` contains, for people.
    data: str

    def __new__(cls, word: str, meaning: str = "", data: str = "") -> Self:
        """A member: its word on the wire, what it means, and what its ``data`` says. (The defaults are for look-ups by
        the word alone.)
        """
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        member.data = data
        return member


class Event(NamedTuple):
    """One step of a task's history."""

    #: Counts from 1 within the task, without gaps; also the id of its server-sent event.
    seq: int
    at: datetime
    #: One of :class:`EventKind`, as text, because an older reader may meet a newer kind.
    kind: str
    #: Number of the attempt it belongs to; 0 before the first.
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
            yield Event(
                row.seq - before, row.claimed_at, EventKind.DISPATCHED, max(row.attempt - 1, 0), row.actor, None
            )
        if row.started_at is not None:
            yield Event(row.seq - 1, row.started_at, EventKind.STARTED, row.attempt, row.actor, None)
        yield Event(row.seq, row.at, row.kind, row.attempt, row.actor, row.data)
