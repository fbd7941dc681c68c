"""Tells, after the commit, the legs of a flush and everybody who waits for them what the ledger has accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog

from ledgerq_shared.states import State
from ledgerq_worker.celery.results import Publisher
from ledgerq_worker.celery.task_events import TaskEvents
from ledgerq_worker.drain.pending import Pending
from ledgerq_worker.drain.written import Written
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import SlotTable

log = structlog.get_logger()


class Telling:
    """Does so for the legs of one slot.

    Args:
        publisher: sends what the ledger has accepted.
        task_events: sends Celery's events to programs that listen; None: no events are sent.
    """

    def __init__(self, table: SlotTable, slot: int, publisher: Publisher, task_events: TaskEvents | None) -> None:
        self._table = table
        self._slot = slot
        self._publisher = publisher
        self._task_events = task_events

    def tell(self, pending: Pending, written: Written) -> None:
        """Tell that ``pending`` was written as ``written`` says, and is committed."""
        for leg in pending.begun.values():
            leg.recorded = State.STARTED
        for leg, what in written.refused.values():
            leg.is_refused = True
            if leg.end is None:
                self._table.flag_cancelled(self._slot, leg.task.claim_no, leg.task.id)
            log.warning("worker.late_write_refused", task_id=leg.task.id, claim=leg.task.claim_no, write=what)
        begun = [leg for leg in pending.begun.values() if leg.start is not None and not leg.is_refused]
        if begun:
            self._publisher.begun(begun)
        if written.kept:
            _log_recorded(written.kept)
            self._publisher.recorded(written.kept, written.outbox)
        if self._task_events is not None and self._task_events.are_there:
            still_running = [leg for leg in pending.begun.values() if not leg.is_refused]
            self._task_events.show(still_running, written.kept)


def _log_recorded(legs: Sequence[Leg]) -> None:
    """Log one line for each batch; if it has a single task, the line names it."""
    if len(legs) == 1:
        [leg] = legs
        seconds = round(leg.ended_at - leg.begun_at, 6) if leg.begun_at else None
        log.info(
            "worker.task.recorded",
            task_id=leg.task.id,
            task_type=leg.task.task_type,
            state=str(leg.state),
            seconds=seconds,
        )
    else:
        log.info("worker.tasks.recorded", **Counter(str(leg.state) for leg in legs))
