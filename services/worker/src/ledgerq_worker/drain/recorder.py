"""Writes what the legs of one slot did, in batches, and never gives up: a result that exists is recorded.

Two threads use a recorder: the slot's own, at the end of a claim (recording and claiming are then one transaction), and
the slot's watcher, while a task runs for long. One flush runs at a time.

While PostgreSQL is away, or refuses for a reason that is not in what is written, a flush is repeated until it succeeds.
The slot stands still meanwhile, so nothing more is claimed and nothing piles up; a result is recorded late rather than its
task being run a second time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
import structlog

from ledgerq_shared import outages
from ledgerq_shared.database import Cursor, Database, execute
from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.faults import Fault
from ledgerq_shared.sql import Statement
from ledgerq_shared.sqlstates import fault_of, is_missing_right
from ledgerq_shared.statements import record
from ledgerq_shared.statements.cancel import revoke_waiting
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.outbox import put_in_outbox
from ledgerq_shared.statements.submit import submit_tasks
from ledgerq_shared.statements.transactions import Rows, end_standstill, lock_written
from ledgerq_shared.states import State
from ledgerq_worker.celery.results import Publisher
from ledgerq_worker.celery.task_events import TaskEvents
from ledgerq_worker.drain.aside import Aside
from ledgerq_worker.drain.pending import Pending
from ledgerq_worker.drain.written import Written, ended_attempt
from ledgerq_worker.slot.encoding import to_json
from ledgerq_worker.slot.ends import Failed, GoesOn, Revoked, Succeeded
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import STORE_WITHIN, SlotTable
from ledgerq_worker.slot.tally import SlotTally

log = structlog.get_logger()

_FIRST_PAUSE = 0.1
#: Whoever is the primary after a failover is found within a second of its being there.
_LONGEST_PAUSE = 0.75
#: Errbacks and hooks are the users' code, which may take long. In seconds.
_LEAVING_WITHIN = 3600.0
#: What is a mistake of ours by its SQLSTATE may still be one item's fault: after so many seconds it is looked for.
_MISTAKE_PATIENCE = 5.0


class OutcomeNotRecordable(Exception):
    """A task ended in a way that PostgreSQL cannot keep."""


@dataclass(slots=True)
class _Doubt:
    """Whether a mistake of ours is one leg's fault after all."""

    #: For so many seconds it is taken for everybody's.
    patience: float
    #: When it was met first, by the monotonic clock.
    since: float | None = None
    #: Whether the leg could be recorded in a plainer form.
    is_plainer_taken: bool = False


class _NotMeant(Exception):
    """Nothing is to be committed: it was a trial."""


class Recorder:
    """Records for one slot.

    Args:
        database: its own pool of one connection is best: a flush never waits for another slot's.
        table, slot: where the node's current worker id stands, and which slot this is.
        worker: the node's name, for the event log.
        publisher: lets out, after the commit, what the ledger has accepted.
        tally: counts what was recorded and claimed.
        task_events: tells whoever listens for Celery's events; null: nobody is to be told.
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
        self._publisher = publisher
        self._tally = tally
        self._task_events = task_events
        self._flushing = threading.Lock()
        self._changing = threading.Lock()
        self._pending = Pending()
        self._aside = Aside(self._record_at_last)

    def ended(self, leg: Leg) -> None:
        """The leg has ended; its start, if not written yet, is written together with the end."""
        with self._changing:
            pending = self._pending
            pending.ended.append(leg)
            if pending.begun and leg.task.id not in pending.progress and leg.task.id not in pending.logs:
                pending.begun.pop(leg.task.id, None)

    def begun(self, leg: Leg) -> None:
        """The leg has been running for a while: write STARTED with the next flush."""
        with self._changing:
            if leg.end is None and leg.recorded is not State.STARTED:
                self._pending.begun[leg.task.id] = leg

    def progressed(self, leg: Leg, percent: float, status: str | None) -> None:
        """The leg reports progress; only the latest of those that wait for a flush is written."""
        with self._changing:
            self._pending.progress[leg.task.id] = (leg, percent, status, time.monotonic())
            if leg.recorded is not State.STARTED:
                self._pending.begun[leg.task.id] = leg

    def logged(self, leg: Leg, data: str) -> None:
        """The leg adds a line to its history."""
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
        """Whether something waits that should be seen at once."""
        pending = self._pending
        return bool(pending.ended or pending.begun or pending.logs)

    def flush(self, claim: Statement | None = None) -> list[ClaimedTask]:
        """Write everything pending and, in the same transaction, make ``claim``.

        Returns:
            What was claimed.
        """
        self._table.sign(self._slot, STORE_WITHIN)  # before the wait for a flush of the watcher's
        with self._flushing:
            with self._changing:
                pending, self._pending = self._pending, Pending()
            if not pending and claim is None:
                return []
            return self._until_recorded(pending, claim)

    def _until_recorded(
        self, pending: Pending, claim: Statement | None, patience: float | None = None
    ) -> list[ClaimedTask]:
        """Record it, whatever that takes.

        Args:
            patience: so many seconds a mistake of ours is taken for everybody's; null: as long as usual.
        """
        pause = _FIRST_PAUSE
        doubt = _Doubt(_MISTAKE_PATIENCE if patience is None else patience)
        while True:
            self._table.sign(self._slot, STORE_WITHIN)
            written = Written()
            begun = time.perf_counter()
            try:
                self._write(pending, claim, written)
                break
            except OutcomeUnknown:
                log.warning("worker.record.outcome_unknown", legs=len(pending.ended), claimed=len(written.claimed))
                if self._was_committed(pending, claim, written):
                    break
            except LedgerUnavailable as error:
                outages.note("worker.record.ledger_unavailable", error, legs=len(pending.ended))
                if not pending:
                    return []
            except Exception as error:
                if fault_of(error) is Fault.REFUSE:
                    self._record_apart(pending, claim, error)
                    return []
                if not pending:
                    raise
                # It seems that no outcome is the reason of it: somebody must put it right, and until then it waits.
                log.error("worker.record.not_possible", error=str(error).strip(), legs=len(pending.ended))
                claim = None
                if self._is_set_apart(pending, error, doubt):
                    return []
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if pending.ended and outages.POSTGRESQL_WRITES.is_on:
            outages.POSTGRESQL_WRITES.worked()
        self._tally.flushed(
            kept=written.kept,
            refused=len(written.refused),
            claimed=written.claimed,
            seconds=time.perf_counter() - begun,
        )
        self._table.sign(self._slot, _LEAVING_WITHIN if written.outbox else STORE_WITHIN)
        self._is_recorded(pending, written)
        self._table.sign(self._slot)
        return written.claimed

    def _record_apart(self, pending: Pending, claim: Statement | None, error: Exception) -> None:
        """PostgreSQL refuses something in this flush: find out whose by halving, so that the others are recorded."""
        if not pending:
            raise error
        if claim is not None:
            self._until_recorded(pending, None)
        elif len(halves := pending.halves()) > 1:
            for half in halves:
                self._until_recorded(half, None)
        elif pending.has_reports or (pending.ended and not _is_plain(pending.ended[0])):
            self._until_recorded(self._plainer(pending, error), None)
        elif not (pending.ended and self._is_taken_aside(pending)):
            raise error

    def _is_set_apart(self, pending: Pending, error: Exception, doubt: _Doubt) -> bool:
        """What looks like everybody's trouble may be one leg's. Whether all that there is has been dealt with.

        A leg is given up in a plainer form that could be recorded, after it itself was refused once more: so it is not at
        the moment in which somebody puts it right.
        """
        doubt.since = doubt.since or time.monotonic()
        if time.monotonic() - doubt.since < doubt.patience or is_missing_right(error):
            return False
        if len(halves := pending.halves()) > 1:
            for half in halves:
                self._until_recorded(half, None, patience=0.0)
            return True
        if doubt.is_plainer_taken:
            self._until_recorded(self._plainer(pending, error), None)
            return True
        doubt.is_plainer_taken = self._could_be_plainer(pending, error)
        return not doubt.is_plainer_taken and bool(pending.ended) and self._is_taken_aside(pending)

    def _is_taken_aside(self, pending: Pending) -> bool:
        self._table.has_asides()  # before the slot goes on: its claim is not forgotten
        return self._aside.take(pending)

    def _plainer(self, pending: Pending, error: Exception) -> Pending:
        kind = "report" if pending.has_reports else "outcome" if pending.ended else "start"
        log.error(f"worker.{kind}.not_recordable", task_ids=pending.task_ids, error=str(error).strip())
        return pending.plainer(_not_recordable(pending, error))

    def _could_be_plainer(self, pending: Pending, error: Exception) -> bool:
        try:
            self._try_out(pending.plainer(_not_recordable(pending, error)))
        except _NotMeant:
            return True
        except Exception:
            return False
        return False

    def _try_out(self, pending: Pending) -> None:
        with self._database.transaction() as cursor:
            self._write_in(cursor, pending, None, Written())
            raise _NotMeant

    def _record_at_last(self, pending: Pending) -> None:
        """Try once to record what was set aside."""
        self._table.has_asides()
        with self._flushing:
            written = Written()
            try:
                self._write(pending, None, written)
            except OutcomeUnknown:
                if not self._was_committed(pending, None, written):
                    raise
            self._is_recorded(pending, written)

    def _write(self, pending: Pending, claim: Statement | None, written: Written) -> None:
        with self._database.transaction() as cursor:
            self._write_in(cursor, pending, claim, written)

    def _write_in(self, cursor: Cursor, pending: Pending, claim: Statement | None, written: Written) -> None:
        written.refused = self._write_running(cursor, pending, written)
        accepted = self._write_ended(cursor, pending)
        written.refused.update(
            {leg.task.id: (leg, str(leg.state)) for leg in pending.ended if leg.task.id not in accepted}
        )
        if written.refused:
            lines = [(leg.task.id, leg.task.claim_no, what) for leg, what in written.refused.values()]
            execute(cursor, record.refuse(lines, worker=self._worker))
        written.kept = [leg for leg in pending.ended if leg.task.id in accepted]
        written.outbox = self._write_leaving(cursor, written.kept)
        if claim is not None:
            written.claimed = [ClaimedTask(*row) for row in execute(cursor, claim)]

    def _is_recorded(self, pending: Pending, written: Written) -> None:
        """The transaction is committed: tell the legs, and everybody who waits for them."""
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
            self._aside.others_pass = True
            _log_recorded(written.kept)
            self._publisher.recorded(written.kept, written.outbox)
        if self._task_events is not None and self._task_events.are_there:
            still_running = [leg for leg in pending.begun.values() if not leg.is_refused]
            self._task_events.show(still_running, written.kept)

    def _was_committed(self, pending: Pending, claim: Statement | None, written: Written) -> bool:
        """Whether a flush whose COMMIT nobody saw answered was committed. Asks for its effect, once nobody is at it any
        more, until that, too, is committed: by then a synchronous standby has it.
        """
        worker_id = claim.params["worker_id"] if claim is not None else ""
        witness = written.witness(pending, worker=self._worker, worker_id=worker_id, slot=self._slot)
        claims = {leg.task.claim_no for leg in (*pending.ended, *pending.begun.values())}
        claims |= {leg.task.claim_no for leg, *_ in pending.progress.values()}
        claims |= {lines.leg.task.claim_no for lines in pending.logs.values()}
        rows = Rows(claims, pending.task_ids, [task.id for task in written.claimed])
        while witness is not None:
            self._table.sign(self._slot, STORE_WITHIN)
            try:
                with self._database.transaction() as cursor:
                    execute(cursor, end_standstill(rows))
                    execute(cursor, lock_written(rows))
                    [(is_there,)] = execute(cursor, witness)
            except (LedgerUnavailable, OutcomeUnknown):
                time.sleep(_FIRST_PAUSE)
            except psycopg2.Error as error:  # somebody must put it right, and until then it waits
                log.error("worker.record.not_known", error=str(error).strip(), legs=len(pending.ended))
                time.sleep(_LONGEST_PAUSE)
            else:
                return bool(is_there)
        return True

    def _write_running(self, cursor: Cursor, pending: Pending, written: Written) -> dict[str, tuple[Leg, str]]:
        """STARTED, log lines and progress; returns the refused ones by task id, with what was to be written."""
        refused: dict[str, tuple[Leg, str]] = {}
        now = time.monotonic()
        # What reported while its STARTED was on the way stands here once more: it is written once.
        if begun := [leg for leg in pending.begun.values() if leg.recorded is not State.STARTED]:
            rows = execute(
                cursor,
                record.record_begun(
                    [
                        record.Begun(x.task.id, x.task.claim_no, x.attempt, x.recorded, x.begun_ago, x.runs_once)
                        for x in begun
                    ]
                ),
            )
            refused.update(self._answered(rows, begun, "STARTED"))
        if pending.logs:
            lines = [
                record.LogLine(logged.leg.task.id, logged.leg.task.claim_no, logged.leg.attempt, data, now - at)
                for logged in pending.logs.values()
                for data, at in logged.all()
            ]
            rows = execute(cursor, record.record_log(lines))
            last = {line.task_id: line.data for line in lines}
            written.logged = {task_id: (seq, last[task_id]) for task_id, seq in rows}
            rows = [(task_id,) for task_id, _ in rows]
            refused.update(self._answered(rows, [logged.leg for logged in pending.logs.values()], "log"))
        if pending.progress:
            items = [
                record.Progress(leg.task.id, leg.task.claim_no, leg.attempt, percent, status, now - at)
                for leg, percent, status, at in pending.progress.values()
            ]
            rows = execute(cursor, record.record_progress(items))
            refused.update(self._answered(rows, [leg for leg, *_ in pending.progress.values()], "progress"))
        return refused

    def _answered(self, rows: list[tuple[Any, ...]], legs: list[Leg], what: str) -> dict[str, tuple[Leg, str]]:
        """What the ledger said to writes of running legs: refusals, or perhaps that a task should stop."""
        answers = {row[0]: row[1:] for row in rows}
        for leg in legs:
            if answers.get(leg.task.id) == (True,) and leg.end is None:
                self._table.flag_cancelled(self._slot, leg.task.claim_no, leg.task.id)
        return {leg.task.id: (leg, what) for leg in legs if leg.task.id not in answers}

    def _write_ended(self, cursor: Cursor, pending: Pending) -> set[str]:
        """Ends and next legs; returns the ids that the ledger accepted."""
        accepted: set[str] = set()
        final: list[record.Ended] = []
        further: list[record.NextLeg] = []
        for leg in pending.ended:
            if isinstance(leg.end, GoesOn):
                further.append(_next(leg, leg.end, _before(leg, pending)))
            else:
                final.append(_ended(leg, _before(leg, pending)))
        if final:
            accepted.update(row[0] for row in execute(cursor, record.record_ended(final)))
        for following in further:
            rows = execute(cursor, record.record_next_leg(following))
            accepted.update(row[0] for row in rows)
            if cancelled := [task_id for task_id, is_cancelled in rows if is_cancelled]:
                execute(cursor, revoke_waiting(cancelled, actor=f"worker:{self._worker}"))
        return accepted

    def _write_leaving(self, cursor: Cursor, legs: list[Leg]) -> list[int]:
        """What the accepted legs send on: tasks into the ledger, everything else into the outbox."""
        follow_ups = [task for leg in legs for task in leg.follow_ups]
        if follow_ups:
            execute(cursor, submit_tasks(follow_ups))
        outbox: list[int] = []
        messages = [to_json({**message, "task_id": leg.task.id}) for leg in legs for message in leg.messages]
        if messages:
            outbox += [row[0] for row in execute(cursor, put_in_outbox("message", messages))]
        outcomes = [to_json({"task_id": leg.task.id}) for leg in legs if has_listeners(leg)]
        if outcomes:
            outbox += [row[0] for row in execute(cursor, put_in_outbox("outcome", outcomes))]
        return outbox


def _not_recordable(pending: Pending, error: Exception) -> OutcomeNotRecordable:
    state = pending.ended[0].state if pending.ended else None
    return OutcomeNotRecordable(f"PostgreSQL cannot keep how the task ended ({state}): {error}".strip())


def _log_recorded(legs: Sequence[Leg]) -> None:
    """One line for each batch; for a single task it says which."""
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


def _before(leg: Leg, pending: Pending) -> State:
    """The state before the end: a STARTED of this very transaction is not `recorded` yet, but the ledger has it."""
    return State.STARTED if leg.task.id in pending.begun else leg.recorded


def has_listeners(leg: Leg) -> bool:
    """Whether Celery owes somebody more than the result: a chord that counts its parts, errbacks, a chain to fail."""
    end = leg.end
    if end is None or isinstance(end, GoesOn):
        return False
    is_success = isinstance(end, Succeeded)
    if end.request is None:
        return not is_success  # Celery's tracer has not seen the end: nobody has been told anything
    if leg.task.celery is None:
        return False
    return bool(end.request.chord or (not is_success and (end.request.errbacks or end.request.chain)))


def _is_plain(leg: Leg) -> bool:
    """Whether its end stands for another that PostgreSQL cannot keep."""
    return isinstance(leg.end, Failed) and isinstance(leg.end.exception, OutcomeNotRecordable)


def _ended(leg: Leg, before: State) -> record.Ended:
    result = error = data = None
    match leg.end:
        case Succeeded():
            result, data = leg.end.result, leg.end.data
        case Failed():
            error = leg.end.error
        case Revoked():
            data = leg.end.data
    assert leg.end is not None
    now = time.monotonic()  # one time for both ages: the end is not before the beginning
    return record.Ended(
        leg.task.id,
        leg.task.claim_no,
        ended_attempt(leg),
        before,
        leg.end.state,
        now - leg.begun_at if leg.begun_at else None,
        now - leg.ended_at,
        result,
        error,
        data,
    )


def _next(leg: Leg, end: GoesOn, before: State) -> record.NextLeg:
    return record.NextLeg(
        task_id=leg.task.id,
        claim_no=leg.task.claim_no,
        attempt=leg.attempt,
        before=before,
        begun_ago=leg.begun_ago,
        state=end.state,
        task_type=end.next.task_type,
        queue=end.next.queue,
        priority=end.next.priority,
        retries=end.next.retries,
        delay=end.next.delay,
        run_at=end.next.run_at,
        args=end.next.args,
        parameters=end.next.parameters,
        celery=end.next.celery,
        data=end.data,
    )
