"""What one flush writes in its transaction: starts, reports, ends, what ended legs send on, and a claim."""

from __future__ import annotations

import time
from typing import Any

from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements import record
from ledgerq_shared.statements.cancel import revoke_waiting
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.outbox import put_in_outbox
from ledgerq_shared.states import State
from ledgerq_shared.tasks.reusing import submit_reusing
from ledgerq_worker.celery.raised import keep
from ledgerq_worker.drain.pending import Pending
from ledgerq_worker.drain.written import Written, ended_attempt
from ledgerq_worker.slot.encoding import to_json
from ledgerq_worker.slot.ends import Failed, GoesOn, Revoked, Succeeded
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import SlotTable


class Writing:
    """Writes for one slot.

    Args:
        worker: the node's name, for the event log.
    """

    def __init__(self, table: SlotTable, slot: int, *, worker: str) -> None:
        self._table = table
        self._slot = slot
        self._worker = worker

    def write(self, cursor: Cursor, pending: Pending, claim: Statement[ClaimedTask] | None, written: Written) -> None:
        """Write what is pending and make ``claim``; ``written`` notes what the ledger has accepted."""
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
            written.claimed = execute(cursor, claim)

    def _write_running(self, cursor: Cursor, pending: Pending, written: Written) -> dict[str, tuple[Leg, str]]:
        """Write STARTED, log lines and progress; returns the refused writes by task id, with what was to be written."""
        refused: dict[str, tuple[Leg, str]] = {}
        now = time.monotonic()
        # A leg that reported while its STARTED was being written is in ``begun`` once more: its STARTED is written only
        # once.
        if begun := [leg for leg in pending.begun.values() if leg.recorded is not State.STARTED]:
            answers = execute(
                cursor,
                record.record_begun(
                    [
                        record.Begun(x.task.id, x.task.claim_no, x.attempt, x.recorded, x.begun_ago, x.runs_once)
                        for x in begun
                    ]
                ),
            )
            refused.update(self._answered(dict(answers), begun, "STARTED"))
        if pending.logs:
            lines = [
                record.LogLine(logged.leg.task.id, logged.leg.task.claim_no, logged.leg.attempt, data, now - at)
                for logged in pending.logs.values()
                for data, at in logged.all()
            ]
            places = execute(cursor, record.record_log(lines))
            last = {line.task_id: line.data for line in lines}
            written.logged = {task_id: (seq, last[task_id]) for task_id, seq in places}
            accepted = dict.fromkeys(written.logged, False)
            refused.update(self._answered(accepted, [logged.leg for logged in pending.logs.values()], "log"))
        if pending.progress:
            items = [
                record.Progress(leg.task.id, leg.task.claim_no, leg.attempt, percent, status, now - at)
                for leg, percent, status, at in pending.progress.values()
            ]
            answers = execute(cursor, record.record_progress(items))
            refused.update(self._answered(dict(answers), [leg for leg, *_ in pending.progress.values()], "progress"))
        return refused

    def _answered(self, answers: dict[str, bool], legs: list[Leg], what: str) -> dict[str, tuple[Leg, str]]:
        """Handle the ledger's answer to writes of running legs: a refusal, or the request that a task should stop."""
        for leg in legs:
            if answers.get(leg.task.id) and leg.end is None:
                self._table.flag_cancelled(self._slot, leg.task.claim_no, leg.task.id)
        return {leg.task.id: (leg, what) for leg in legs if leg.task.id not in answers}

    def _write_ended(self, cursor: Cursor, pending: Pending) -> set[str]:
        """Write ends and next legs; returns the ids that the ledger accepted."""
        accepted: set[str] = set()
        final: list[record.Ended] = []
        further: list[record.NextLeg] = []
        for leg in pending.ended:
            if isinstance(leg.end, GoesOn):
                further.append(_next(leg, leg.end, _before(leg, pending)))
            else:
                final.append(_ended(leg, _before(leg, pending)))
        if final:
            accepted.update(task_id for (task_id,) in execute(cursor, record.record_ended(final)))
        for following in further:
            rows = execute(cursor, record.record_next_leg(following))
            accepted.update(task_id for task_id, _ in rows)
            if cancelled := [task_id for task_id, is_cancelled in rows if is_cancelled]:
                execute(cursor, revoke_waiting(cancelled, actor=f"worker:{self._worker}"))
        return accepted

    def _write_leaving(self, cursor: Cursor, legs: list[Leg]) -> list[int]:
        """Write what the accepted legs send on: tasks go into the ledger, everything else into the outbox."""
        follow_ups = [task for leg in legs for task in leg.follow_ups]
        if follow_ups:
            submit_reusing(cursor, follow_ups)
        outbox: list[int] = []
        messages = [to_json({**message, "task_id": leg.task.id}) for leg in legs for message in leg.messages]
        if messages:
            outbox += [entry for (entry,) in execute(cursor, put_in_outbox("message", messages))]
        outcomes = [to_json(_outcome(leg)) for leg in legs if has_listeners(leg)]
        if outcomes:
            outbox += [entry for (entry,) in execute(cursor, put_in_outbox("outcome", outcomes))]
        return outbox


def _before(leg: Leg, pending: Pending) -> State:
    """The state before the end: a STARTED of the same transaction is not in `recorded` yet, but the ledger has it."""
    return State.STARTED if leg.task.id in pending.begun else leg.recorded


def has_listeners(leg: Leg) -> bool:
    """Whether more than the result has to be sent: a chord counts its parts, there are errbacks, a chain has to
    fail.
    """
    end = leg.end
    if end is None or isinstance(end, GoesOn):
        return False
    is_success = isinstance(end, Succeeded)
    if end.request is None:
        return not is_success  # Celery's tracer has not seen this end, so it has sent nothing
    if leg.task.celery is None:
        return False
    return bool(end.request.chord or (not is_success and (end.request.errbacks or end.request.chain)))


def _outcome(leg: Leg) -> dict[str, Any]:
    """What the outbox has of an end, beyond the ledger: an exception, whether Celery's tracer has told of it, and the
    tasks that were sent.
    """
    payload: dict[str, Any] = {"task_id": leg.task.id}
    if isinstance(leg.end, Failed):
        payload["exception"] = keep(leg.end.exception)
        payload["traced"] = leg.end.request is not None
        payload["children"] = [child.as_tuple() for child in getattr(leg.end.request, "children", None) or ()]
    return payload


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
    now = time.monotonic()  # one time for both ages, so that the end is not before the beginning
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
