"""Writes what the legs of one slot did, in batches, and never gives up: every end that exists is recorded.

Two threads use a recorder: the slot's own, at the end of a claim (recording and claiming are then one transaction), and
the slot's watcher, while a task runs for long. One flush runs at a time.

While PostgreSQL is away, or refuses a flush for a reason that is not in the flush's content, the flush is repeated
until it succeeds. The slot stands still meanwhile, so it claims nothing more and nothing accumulates; an end is
recorded late, and its task does not run a second time. A flush that is refused because of its content is split into
parts (``refusals``).
"""

from __future__ import annotations

import math
import threading
import time
from functools import partial

from ledgerq_shared import outages
from ledgerq_shared.errors import OutcomeUnknown, Unavailable
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.repeating import any_refusal, until_done
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.transactions import Rows, end_standstill, lock_written
from ledgerq_shared.states import State
from ledgerq_worker.celery.results import Publisher
from ledgerq_worker.celery.task_events import TaskEvents
from ledgerq_worker.drain.aside import Aside
from ledgerq_worker.drain.pending import Pending
from ledgerq_worker.drain.refusals import Part, Refusals
from ledgerq_worker.drain.telling import Telling
from ledgerq_worker.drain.writing import Writing
from ledgerq_worker.drain.written import Written
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import STORE_WITHIN, SlotTable
from ledgerq_worker.slot.tally import SlotTally

#: Seconds that errbacks and hooks may take, because they are the users' code.
_LEAVING_WITHIN = 3600.0


class _NotMeant(Exception):
    """Rolls a trial back: nothing is to be committed."""


class Recorder:
    """Records for one slot.

    Args:
        database: its own pool of one connection is best: a flush never waits for another slot's.
        table, slot: the table with the node's current worker id, and this slot's number.
        worker: the node's name, for the event log.
        publisher: sends, after the commit, what the ledger has accepted.
        tally: counts what was recorded and claimed.
        task_events: sends Celery's events to programs that listen; None: no events are sent.
    """

    def __init__(
        self,
        database: Database,
        table: SlotTable,
        slot: int,
        *,
        worker: str,
        publisher: Publisher,
        tally: SlotTally,
        task_events: TaskEvents | None = None,
    ) -> None:
        self._database = database
        self._table = table
        self._slot = slot
        self._worker = worker
        self._tally = tally
        self._flushing = threading.Lock()
        self._changing = threading.Lock()
        self._pending = Pending()
        self._writing = Writing(table, slot, worker=worker)
        self._telling = Telling(table, slot, publisher, task_events)
        self._aside = Aside(self._record_at_last, table.has_asides)
        self._refusals = Refusals(self._aside, self._would_take)

    def ended(self, leg: Leg) -> None:
        """Record that the leg has ended; if its start is not written yet, it is written together with the end."""
        with self._changing:
            pending = self._pending
            pending.ended.append(leg)
            if pending.begun and leg.task.id not in pending.progress and leg.task.id not in pending.logs:
                pending.begun.pop(leg.task.id, None)

    def begun(self, leg: Leg) -> None:
        """Write STARTED with the next flush, because the leg has been running for a while."""
        with self._changing:
            if leg.end is None and leg.recorded is not State.STARTED:
                self._pending.begun[leg.task.id] = leg

    def progressed(self, leg: Leg, percent: float, status: str | None) -> None:
        """Record progress of the leg; if several reports wait for a flush, only the latest is written."""
        with self._changing:
            self._pending.progress[leg.task.id] = (leg, percent, status, time.monotonic())
            if leg.recorded is not State.STARTED:
                self._pending.begun[leg.task.id] = leg

    def logged(self, leg: Leg, data: str) -> None:
        """Record a line for the leg's history."""
        with self._changing:
            self._pending.log(leg, data)
            if leg.recorded is not State.STARTED:
                self._pending.begun[leg.task.id] = leg

    @property
    def has_pending(self) -> bool:
        """Whether anything waits for a flush."""
        return bool(self._pending)

    @property
    def has_more_than_progress(self) -> bool:
        """Whether something waits for a flush that should be visible at once."""
        pending = self._pending
        return bool(pending.ended or pending.begun or pending.logs)

    def flush(self, claim: Statement[ClaimedTask] | None = None) -> list[ClaimedTask]:
        """Write everything that is pending and, in the same transaction, make ``claim``.

        Returns:
            The claimed tasks.
        """
        self._table.sign(self._slot, STORE_WITHIN)  # before the wait for the watcher's flush
        with self._flushing:
            with self._changing:
                pending, self._pending = self._pending, Pending()
            if not pending and claim is None:
                return []
            return self._record(Part(pending, claim))

    def _record(self, whole: Part) -> list[ClaimedTask]:
        """Record ``whole``, whatever that takes: as a whole or, if it is refused, in parts, one after another."""
        parts = [whole]
        claimed: list[ClaimedTask] = []
        while parts:
            part = parts.pop(0)
            try:
                written = self._committed(part)
            except Unavailable:  # there was nothing to record; a later claim will find what is ready
                continue
            except Exception as error:
                parts[:0] = self._refusals.instead(part, error)
                continue
            self._is_recorded(part.pending, written)
            claimed += written.claimed
        return claimed

    def _committed(self, part: Part) -> Written:
        """Write ``part``; returns what was written and committed.

        Raises:
            Unavailable: PostgreSQL is away, and the part only claims.
            Exception: PostgreSQL refuses something in it.
        """
        in_doubt: Written | None = None

        def once(_: bool) -> Written:
            nonlocal in_doubt
            self._table.sign(self._slot, STORE_WITHIN)
            if in_doubt is not None and self._was_committed(part, in_doubt):
                return in_doubt
            in_doubt, written = None, Written()
            try:
                self._write(part, written)
            except OutcomeUnknown:
                in_doubt = written
                raise
            return written

        return until_done(
            once,
            what="worker.record",
            seconds=math.inf if part.pending else 0.0,
            outlasts=partial(self._refusals.is_to_wait, part),
            legs=len(part.pending.ended),
        )

    def _write(self, part: Part, written: Written) -> None:
        with self._database.transaction() as cursor:
            self._writing.write(cursor, part.pending, part.claim, written)

    def _was_committed(self, part: Part, written: Written) -> bool:
        """Whether a flush of unknown outcome was committed. It looks for the flush's effect, once no server process
        works on it any more, until the look itself is committed: by then a synchronous standby has the effect.
        """
        worker_id = part.claim.params["worker_id"] if part.claim is not None else ""
        witness = written.witness(part.pending, worker=self._worker, worker_id=worker_id, slot=self._slot)
        if witness is None:
            return True
        rows = Rows(part.pending.claims, part.pending.task_ids, [task.id for task in written.claimed])

        def once(_: bool) -> bool:
            self._table.sign(self._slot, STORE_WITHIN)
            with self._database.transaction() as cursor:
                execute(cursor, end_standstill(rows))
                execute(cursor, lock_written(rows))
                [(is_there,)] = execute(cursor, witness)
            return is_there

        return until_done(once, what="worker.record.witness", outlasts=any_refusal, legs=len(part.pending.ended))

    def _is_recorded(self, pending: Pending, written: Written) -> None:
        if pending.ended and outages.POSTGRESQL_WRITES.is_on:
            outages.POSTGRESQL_WRITES.worked()
        self._tally.flushed(
            kept=written.kept,
            refused=len(written.refused),
            claimed=written.claimed,
            seconds=time.perf_counter() - written.begun_at,
        )
        if written.kept:
            self._aside.others_pass = True
        self._table.sign(self._slot, _LEAVING_WITHIN if written.outbox else STORE_WITHIN)
        self._telling.tell(pending, written)
        self._table.sign(self._slot)

    def _would_take(self, pending: Pending) -> bool:
        try:
            self._try_out(pending)
        except _NotMeant:
            return True
        except Exception:
            return False
        return False

    def _try_out(self, pending: Pending) -> None:
        with self._database.transaction() as cursor:
            self._writing.write(cursor, pending, None, Written())
            raise _NotMeant

    def _record_at_last(self, pending: Pending) -> None:
        """Try once to record an end that was put aside."""
        part, written = Part(pending), Written()
        with self._flushing:
            try:
                self._write(part, written)
            except OutcomeUnknown:
                if not self._was_committed(part, written):
                    raise
            if written.kept:
                self._aside.others_pass = True
            self._telling.tell(pending, written)
