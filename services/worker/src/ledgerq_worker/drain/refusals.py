"""What PostgreSQL refuses of a flush: whose fault it is, and what is recorded instead, so that all others are recorded.

An item's own fault, by its SQLSTATE, is looked for at once, by halving. A mistake of ours, or of an operator's, is taken for
everybody's: somebody must put it right, and until then it waits. It may still be one leg's, so after a while that is looked
for, too; and a leg is given up in a plainer form only if that could be recorded, and after it itself was refused once more:
not at the moment in which somebody puts it right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from ledgerq_shared.faults import Fault
from ledgerq_shared.sql import Statement
from ledgerq_shared.sqlstates import fault_of, is_missing_right
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_worker.drain.aside import Aside
from ledgerq_worker.drain.pending import Pending
from ledgerq_worker.slot.ends import Failed
from ledgerq_worker.slot.legs import Leg

log = structlog.get_logger()

#: For so many seconds what is a mistake of ours by its SQLSTATE is taken for everybody's.
_MISTAKE_PATIENCE = 5.0


class OutcomeNotRecordable(Exception):
    """A task ended in a way that PostgreSQL cannot keep."""


@dataclass(slots=True)
class Part:
    """What is written in one transaction, and what its refusals have shown."""

    pending: Pending
    #: Made in the same transaction; None: nothing is claimed.
    claim: Statement[ClaimedTask] | None = None
    patience: float = field(default_factory=lambda: _MISTAKE_PATIENCE)
    #: When a mistake was met first, by the monotonic clock.
    since: float | None = None
    #: Whether its leg could be recorded in a plainer form.
    could_be_plainer: bool = False


class Refusals:
    """Decides for one recorder.

    Args:
        aside: keeps ends that are taken in no form.
        would_take: whether PostgreSQL would take this, by a trial.
    """

    def __init__(self, aside: Aside, would_take: Callable[[Pending], bool]) -> None:
        self._aside = aside
        self._would_take = would_take

    def is_to_wait(self, part: Part, error: Exception) -> bool:
        """Whether the part is to be tried again as it is: it seems that none of its legs is the reason."""
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
            Exception: ``error``, where there is nothing that could be done about it.
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
    """Whether its end stands for another that PostgreSQL cannot keep."""
    return isinstance(leg.end, Failed) and isinstance(leg.end.exception, OutcomeNotRecordable)
