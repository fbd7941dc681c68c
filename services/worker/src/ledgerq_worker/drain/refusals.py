"""Decides, when PostgreSQL refuses a flush, whose fault that is and what to record instead, so that all other legs are
recorded.

If the SQLSTATE shows an item's own fault, that item is looked for at once, by halving. A mistake of ours, or of an
operator, is first assumed to concern everything: somebody must correct it, and until then the flush waits. It may
nevertheless be one leg's fault, so after a while that leg is looked for, too. A leg is recorded in a plainer form only
if that form could be recorded, and only after the leg itself was refused once more, so that this does not happen just
when somebody corrects the mistake.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from ledgerq_shared.faults import Fault
from ledgerq_shared.postgres.sqlstates import fault_of, is_missing_right
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_worker.drain.aside import Aside
from ledgerq_worker.drain.pending import Pending
from ledgerq_worker.slot.ends import Failed
from ledgerq_worker.slot.legs import Leg

log = structlog.get_logger()

#: For this many seconds an error that is a mistake of ours by its SQLSTATE is assumed to concern everything.
_MISTAKE_PATIENCE = 5.0


class OutcomeNotRecordable(Exception):
    """A task ended in a way that PostgreSQL cannot keep."""


@dataclass(slots=True)
class Part:
    """What one transaction writes, and what its refusals have shown."""

    pending: Pending
    #: The claim that the same transaction makes; None: it claims nothing.
    claim: Statement[ClaimedTask] | None = None
    patience: float = field(default_factory=lambda: _MISTAKE_PATIENCE)
    #: When a mistake was first met, by the monotonic clock.
    since: float | None = None
    #: Whether a plainer form of its leg could be recorded.
    could_be_plainer: bool = False


class Refusals:
    """Decides for one recorder.

    Args:
        aside: keeps ends that PostgreSQL takes in no form.
        would_take: returns, by a trial, whether PostgreSQL would take this.
    """

    def __init__(self, aside: Aside, would_take: Callable[[Pending], bool]) -> None:
        self._aside = aside
        self._would_take = would_take

    def is_to_wait(self, part: Part, error: Exception) -> bool:
        """Whether to try the part again unchanged, because it seems that none of its legs is the reason."""
        pending = part.pending
        if part.claim is not None or fault_of(error) is Fault.REFUSE:
            return False
        part.since = part.since or time.monotonic()
        if time.monotonic() - part.since < part.patience or is_missing_right(error):
            return True
        if len(pending.halves()) > 1 or part.could_be_plainer:
            return False
        part.could_be_plainer = self._would_take(pending.plainer(_not_recordable(pending, error)))
        return part.could_be_plainer or not (pending.ended and self._aside.has_room)

    def instead(self, part: Part, error: Exception) -> list[Part]:
        """What is to be recorded in place of a part that was refused and is not to wait; at last nothing.

        Raises:
            Exception: ``error``, if nothing can be done about it.
        """
        pending, is_refused = part.pending, fault_of(error) is Fault.REFUSE
        if not pending:
            raise error
        if part.claim is not None:
            return [replace(part, claim=None)]
        if len(halves := pending.halves()) > 1:
            return [Part(half) if is_refused else Part(half, patience=0.0) for half in halves]
        is_plainer_better = pending.has_reports or (bool(pending.ended) and not _is_plain(pending.ended[0]))
        if is_plainer_better if is_refused else part.could_be_plainer:
            return [Part(_plainer(pending, error))]
        if pending.ended and self._aside.take(pending):
            return []
        raise error


def _plainer(pending: Pending, error: Exception) -> Pending:
    kind = "report" if pending.has_reports else "outcome" if pending.ended else "start"
    log.error(f"worker.{kind}.not_recordable", task_ids=pending.task_ids, error=str(error).strip())
    return pending.plainer(_not_recordable(pending, error))


def _not_recordable(pending: Pending, error: Exception) -> OutcomeNotRecordable:
    state = pending.ended[0].state if pending.ended else None
    return OutcomeNotRecordable(f"PostgreSQL cannot keep how the task ended ({state}): {error}".strip())


def _is_plain(leg: Leg) -> bool:
    """Whether the leg's end replaces another one that PostgreSQL cannot keep."""
    return isinstance(leg.end, Failed) and isinstance(leg.end.exception, OutcomeNotRecordable)
