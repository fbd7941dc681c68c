"""Writes what the legs of one slot did, in batches, and never gives up: a result that exists is recorded.

Two threads use a recorder: the slot's own, at the end of a claim (recording and claiming are then one transaction), and
the slot's watcher, while a task runs for long. One flush runs at a time.

While PostgreSQL is away a flush is repeated until it succeeds. The slot stands still meanwhile, so nothing more is
claimed and nothing piles up; a result is recorded late rather than its task being run a second time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from ledgerq_shared.database import Database, execute, type_cursor
from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements import record
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.read_states import read_states
from ledgerq_shared.statements.recover import recover_claims
from ledgerq_shared.statements.submit import submit_tasks
from ledgerq_shared.states import State
from ledgerq_worker.encoding import to_json
from ledgerq_worker.legs import Leg
from ledgerq_worker.slots import SlotTable

log = structlog.get_logger()

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


@dataclass(slots=True)
class _Pending:
    """What the next flush writes."""

    ended: list[Leg] = field(default_factory=list)
    #: By task id: legs whose start is to be written before their end is.
    begun: dict[str, Leg] = field(default_factory=dict)
    #: By task id: the latest progress, as ``(leg, percent, status, when)``.
    progress: dict[str, tuple[Leg, float, str | None, float]] = field(default_factory=dict)
    logs: list[tuple[Leg, str, float]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ended or self.begun or self.progress or self.logs)


class Recorder:
    """Records for one slot.

    Args:
        database: its own pool of one connection is best: a flush never waits for another slot's.
        table, slot: where the node's current worker id stands, and which slot this is.
        worker: the node's name, for the event log.
        on_recorded: given the legs whose end the ledger has accepted, after the commit, with the ids of their outbox
            entries.
    """

    def __init__(
        self,
        database: Database,
        table: SlotTable,
        slot: int,
        *,
        worker: str,
        on_recorded: Callable[[Sequence[Leg], Sequence[int]], None],
    ) -> None:
        self._database = database
        self._table = table
        self._slot = slot
        self._worker = worker
        self._on_recorded = on_recorded
        self._flushing = threading.Lock()
        self._changing = threading.Lock()
        self._pending = _Pending()

    def ended(self, leg: Leg) -> None:
        """The leg has ended; its start, if not written yet, is written together with the end."""
        with self._changing:
            pending = self._pending
            pending.ended.append(leg)
            if (
                pending.begun
                and leg.task.id not in pending.progress
                and all(leg is not line[0] for line in pending.logs)
            ):
                pending.begun.pop(leg.task.id, None)

    def begun(self, leg: Leg) -> None:
        """The leg has been running for a while: write STARTED with the next flush."""
        with self._changing:
            if leg.state is None and leg.recorded is not State.STARTED:
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
            self._pending.logs.append((leg, data, time.monotonic()))
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
        with self._flushing:
            with self._changing:
                pending, self._pending = self._pending, _Pending()
            if not pending and claim is None:
                return []
            return self._until_recorded(pending, claim)

    def _until_recorded(self, pending: _Pending, claim: Statement | None) -> list[ClaimedTask]:
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._write(pending, claim)
            except OutcomeUnknown:
                log.warning("worker.record.outcome_unknown", legs=len(pending.ended))
                # Whatever was claimed in that transaction is not known here: the tasks must go back.
                self._settle(pending, give_back=claim is not None)
                claim = None
            except LedgerUnavailable as error:
                log.warning("worker.record.ledger_unavailable", error=error.detail, legs=len(pending.ended))
                if not pending:
                    return []
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _write(self, pending: _Pending, claim: Statement | None) -> list[ClaimedTask]:
        with self._database.transaction() as cursor:
            refused = self._write_running(cursor, pending)
            accepted = _write_ended(cursor, pending)
            refused.update({leg.task.id: (leg, str(leg.state)) for leg in pending.ended if leg.task.id not in accepted})
            if refused:
                lines = [(leg.task.id, leg.task.claim_no, what) for leg, what in refused.values()]
                execute(cursor, record.refuse(lines, worker=self._worker))
            kept = [leg for leg in pending.ended if leg.task.id in accepted]
            outbox = self._write_leaving(cursor, kept)
            claimed = [ClaimedTask(*row) for row in execute(cursor, claim)] if claim is not None else []
        for leg in pending.begun.values():
            leg.recorded = State.STARTED
        for leg, what in refused.values():
            log.warning("worker.late_write_refused", task_id=leg.task.id, claim=leg.task.claim_no, write=what)
        if kept:
            self._on_recorded(kept, outbox)
        return claimed

    def _write_running(self, cursor: type_cursor, pending: _Pending) -> dict[str, tuple[Leg, str]]:
        """STARTED, log lines and progress; returns the refused ones by task id, with what was to be written."""
        refused: dict[str, tuple[Leg, str]] = {}
        now = time.monotonic()
        # What reported while its STARTED was on the way stands here once more: it is written once.
        if begun := [leg for leg in pending.begun.values() if leg.recorded is not State.STARTED]:
            rows = execute(
                cursor,
                record.record_begun(
                    [record.Begun(x.task.id, x.task.claim_no, x.attempt, x.recorded, x.begun_ago) for x in begun]
                ),
            )
            refused.update(self._answered(rows, begun, "STARTED"))
        for leg, data, at in pending.logs:
            line = record.LogLine(leg.task.id, leg.task.claim_no, leg.attempt, data, now - at)
            refused.update(self._answered(execute(cursor, record.record_log(line)), [leg], "log"))
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
            if answers.get(leg.task.id) == (True,) and leg.state is None:
                self._table.flag_cancelled(self._slot)
        return {leg.task.id: (leg, what) for leg in legs if leg.task.id not in answers}

    def _write_leaving(self, cursor: type_cursor, legs: list[Leg]) -> list[int]:
        """What the accepted legs send on: tasks into the ledger, everything else into the outbox."""
        follow_ups = [task for leg in legs for task in leg.follow_ups]
        if follow_ups:
            execute(cursor, submit_tasks(follow_ups))
        outbox: list[int] = []
        messages = [to_json(message) for leg in legs for message in leg.messages]
        if messages:
            outbox += [row[0] for row in execute(cursor, record.put_in_outbox("message", messages))]
        outcomes = [to_json({"task_id": leg.task.id}) for leg in legs if has_listeners(leg)]
        if outcomes:
            outbox += [row[0] for row in execute(cursor, record.put_in_outbox("outcome", outcomes))]
        return outbox

    def _settle(self, pending: _Pending, *, give_back: bool) -> None:
        """After a connection was lost in COMMIT: keep for the next try only what the ledger does not have."""
        while True:
            try:
                with self._database.transaction() as cursor:
                    ids = [leg.task.id for leg in pending.ended]
                    known = {row[0]: row[1:] for row in execute(cursor, read_states(ids))}
                    if give_back:
                        statement = recover_claims(
                            worker_id=self._table.worker_id, slot=self._slot, suspects=[], charge=False,
                            why="outcome of a commit unknown", actor=f"worker:{self._worker}",
                        )  # fmt: skip
                        if all(_has(known.get(leg.task.id), leg) for leg in pending.ended):
                            execute(cursor, statement)
            except (LedgerUnavailable, OutcomeUnknown):
                time.sleep(_LONGEST_PAUSE)
                continue
            committed = [leg for leg in pending.ended if _has(known.get(leg.task.id), leg)]
            pending.ended = [leg for leg in pending.ended if leg not in committed]
            if committed:
                self._on_recorded(committed, [])
            return


def _write_ended(cursor: type_cursor, pending: _Pending) -> set[str]:
    """Ends and next legs; returns the ids that the ledger accepted."""
    accepted: set[str] = set()
    final = [_ended(leg, _before(leg, pending)) for leg in pending.ended if leg.next_leg is None]
    if final:
        accepted.update(row[0] for row in execute(cursor, record.record_ended(final)))
    for leg in pending.ended:
        if leg.next_leg is not None:
            rows = execute(cursor, record.record_next_leg(_next(leg, _before(leg, pending))))
            accepted.update(row[0] for row in rows)
    return accepted


def _before(leg: Leg, pending: _Pending) -> State:
    """The state before the end: a STARTED of this very transaction is not `recorded` yet, but the ledger has it."""
    return State.STARTED if leg.task.id in pending.begun else leg.recorded


def has_listeners(leg: Leg) -> bool:
    """Whether Celery owes somebody more than the result: a chord that counts its parts, errbacks, a chain to fail."""
    request = leg.request
    if request is None or leg.task.celery is None:
        return False
    return bool(request.chord or (leg.state is not State.SUCCESS and (request.errbacks or request.chain)))


def _ended(leg: Leg, before: State) -> record.Ended:
    assert leg.state is not None
    return record.Ended(
        leg.task.id,
        leg.task.claim_no,
        _ended_attempt(leg),
        before,
        leg.state,
        leg.begun_ago if leg.begun_at else None,
        leg.ended_ago,
        leg.result,
        leg.error,
        leg.data,
    )


def _next(leg: Leg, before: State) -> record.NextLeg:
    assert leg.state is not None
    assert leg.next_leg is not None
    return record.NextLeg(
        task_id=leg.task.id,
        claim_no=leg.task.claim_no,
        attempt=leg.attempt,
        before=before,
        begun_ago=leg.begun_ago,
        state=leg.state,
        data=leg.data,
        **leg.next_leg,
    )


def _has(row: tuple[object, ...] | None, leg: Leg) -> bool:
    """Whether the ledger's ``(state, attempt)`` shows this leg's end."""
    return row is not None and row[0] == leg.state and row[1] == _ended_attempt(leg)


def _ended_attempt(leg: Leg) -> int:
    return leg.attempt if leg.begun_at else leg.task.attempt
