"""What became of a task, as the ledger has it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ledgerq_shared.events import Event, EventKind, StoredEvent, expand
from ledgerq_shared.statements.read_task import StatusRow


class Progress(NamedTuple):
    """One report of progress."""

    #: Per cent, 0 to 100.
    percent: float
    #: For people; None: the task gave no text.
    status: str | None = None


@dataclass(frozen=True)
class Outcome:
    """A task and its history; JSON is decoded."""

    id: str
    task_type: str
    queue: str
    #: One of the six words of :class:`ledgerq_shared.states.State`, such as ``SUCCESS``.
    status: str
    #: What the task returned, after the way through JSON; None unless it succeeded.
    result: Any
    #: ``type``, ``message``, ``traceback`` and so on, as ``GET /tasks/{task_id}`` shows them; None unless it failed.
    error: dict[str, Any] | None
    #: How many attempts were begun.
    attempts: int
    #: The last report of progress, which is what the ledger keeps; None: there was none.
    progress: Progress | None
    #: All reports of progress of all attempts, in order. (The ledger keeps fewer: what is written is throttled.)
    reports: list[Progress]
    #: The whole history, in order.
    events: list[Event]

    @property
    def history(self) -> list[str]:
        """The kinds of the events, such as ``submitted``, ``dispatched``, ``started``, ``succeeded``."""
        return [str(event.kind) for event in self.events]

    @property
    def logs(self) -> list[dict[str, Any]]:
        """What the task wrote by ``self.log``: ``message`` and whatever else it gave."""
        return [event.data or {} for event in self.events if event.kind == EventKind.LOG]


def outcome_of(row: StatusRow, stored: Iterable[StoredEvent], reports: Sequence[Progress]) -> Outcome:
    """An outcome from a task's row and its stored events, whose JSON is text."""
    return Outcome(
        id=row.id,
        task_type=row.task_type,
        queue=row.queue,
        status=row.state,
        result=_decoded(row.result),
        error=_decoded(row.error),
        attempts=row.attempt,
        progress=None if row.progress is None else Progress(row.progress, row.progress_status),
        reports=list(reports),
        events=[event._replace(data=_decoded(event.data)) for event in expand(stored)],
    )


def _decoded(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else text
