"""A leg: one attempt of a task under one claim, with everything that it will record and send.

While a leg runs, what Celery's tracer would send or store at once is kept here instead. It leaves only after the ledger
has accepted the leg's end; if the claim was superseded, it never leaves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from celery.exceptions import SoftTimeLimitExceeded

from ledgerq_shared.process.tracing import Origin
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.submit import NewTask
from ledgerq_shared.states import State
from ledgerq_worker.slot.encoding import describe_error, encode_result, to_json
from ledgerq_worker.slot.ends import End, Failed, Next, Succeeded
from ledgerq_worker.slot.limits import SoftLimit, StruckWhileEncoding

if TYPE_CHECKING:
    from ledgerq_worker.slot.table import SlotTable


class TaskCancelled(Exception):
    """Raised inside a task by ``raise_if_cancelled`` when its cancellation was requested."""


class Reports(Protocol):
    """Where a running leg reports: the recorder of its slot."""

    def progressed(self, leg: Leg, percent: float, status: str | None) -> None:
        """Report how far the leg is, in percent, and what it does."""

    def logged(self, leg: Leg, data: str) -> None:
        """Report a line for its history, as JSON."""


@dataclass(slots=True)
class Leg:
    """One attempt of a claimed task."""

    task: ClaimedTask
    #: The slot that runs it; the lease agent sets the cancel flag there.
    slot: int
    table: SlotTable
    recorder: Reports
    #: The state in the ledger; it changes when a flush has written STARTED.
    recorded: State
    begun_at: float = 0.0
    ended_at: float = 0.0
    #: Whether the task's own code has been called; if the code calls itself again, that is not another beginning.
    is_body_begun: bool = False
    #: Whether the task's own code has returned: what is sent afterwards belongs to its outcome.
    is_body_done: bool = False
    #: How it ended; None while it runs.
    end: End | None = None
    #: What ``AsyncResult`` will see of STARTED (``track_started``), with Celery's request; None: nothing.
    start: tuple[Any, Any] | None = None
    #: Tasks to submit together with the end: chain steps, callbacks.
    follow_ups: list[NewTask] = field(default_factory=list)
    #: Celery messages for tasks that are not ours, to send after the end.
    messages: list[dict[str, Any]] = field(default_factory=list)
    #: A retry or replacement that the task asked for; it takes effect if the leg does not fail.
    next: Next | None = None
    #: ``on_worker_lost = fail``: the ledger has its start before the code begins, and the task never begins again.
    runs_once: bool = False
    #: The task's options that this run has changed (``celery.run_options``); None: none.
    options: dict[str, Any] | None = None
    #: Whether its start was sent to programs that listen for Celery's events.
    is_shown: bool = False
    #: Whether the ledger has refused a write of this leg: its claim was superseded, and nothing that it does counts any
    #: more.
    is_refused: bool = False
    #: None: it has no soft limit.
    soft_limit: SoftLimit | None = None

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self.task.attempt + 1

    @property
    def state(self) -> State | None:
        """The state that its end leads to; None while it runs."""
        return None if self.end is None else self.end.state

    def succeed(self, value: Any, request: Any, *, is_kept: bool) -> None:
        """End the leg with what the body returned; ``is_kept``: the result is kept.

        Raises:
            EncodeError: JSON cannot hold it, or the soft limit was reached meanwhile; then nothing has changed.
        """
        self.end = Succeeded(self._encoded(value) if is_kept else None, value, request, is_kept)

    def _encoded(self, value: Any) -> str:
        if self.soft_limit is None:
            return encode_result(value)
        try:
            with self.soft_limit:
                return encode_result(value)
        except SoftTimeLimitExceeded as error:
            raise StruckWhileEncoding(*error.args) from None

    def fail(self, error: BaseException) -> None:
        """End the leg with a failure that Celery's tracer does not know of, whatever its end was before."""
        self.next = None
        self.end_without_rest(Failed(to_json(describe_error(error, None)), error))

    def end_without_rest(self, end: End) -> None:
        """End the leg with ``end``; messages and follow-ups of an earlier end do not leave."""
        self.end, self.follow_ups, self.messages = end, [], []

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to cancel this task."""
        return self.table.is_cancelled(self.slot)

    @property
    def celery_id(self) -> str:
        """The id under which Celery knows the task."""
        return self.task.celery_id or self.task.id

    @property
    def begun_ago(self) -> float:
        """Seconds since the code began."""
        return time.monotonic() - self.begun_at

    @property
    def ended_ago(self) -> float:
        """Seconds since the code ended."""
        return time.monotonic() - self.ended_at


_current = threading.local()
#: Returns the leg that this process runs, if it runs one at a time.
_of_process: Callable[[], Leg | None] | None = None


def current() -> Leg | None:
    """The leg that this thread is running; None outside of a drain."""
    return getattr(_current, "leg", None)


def log_fields() -> dict[str, object]:
    """The log fields of the leg that the calling thread runs. They are made for each line, so they cost nothing without
    one.
    """
    return _fields_of(current())


def print_fields() -> dict[str, object]:
    """The fields of what is printed: those of the calling thread's leg; in a thread that a task has started, those of
    the leg that its process runs. (Our own threads print nothing.)
    """
    leg = current()
    return _fields_of(leg if leg is not None or _of_process is None else _of_process())


def _fields_of(leg: Leg | None) -> dict[str, object]:
    if leg is None:
        return {}
    fields = {"task_id": leg.task.id, "task_type": leg.task.task_type, "attempt": leg.attempt}
    return {**fields, **Origin.parse(leg.task.trace).log_fields()}


def one_at_a_time(running: Callable[[], Leg | None]) -> None:
    """Note that this process runs one leg at a time, which ``running`` returns."""
    global _of_process  # noqa: PLW0603 - there is one process
    _of_process = running


def set_current(leg: Leg | None) -> None:
    """Note which leg this thread runs now."""
    _current.leg = leg
