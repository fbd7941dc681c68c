"""Ends tasks together with their process: tasks at their hard limit, tasks that somebody asked to terminate, and slots
that stand still.

The ledger is told afterwards (:mod:`ledgerq_worker.node.returning`), because the process itself may hold the lock that
the record needs: it may stand still in the middle of a flush, or write one without end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from signal import SIGKILL
from typing import NamedTuple

import structlog

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.cancel import CancelRequest
from ledgerq_shared.statements.record import end_from_outside
from ledgerq_shared.states import State
from ledgerq_shared.task_errors import TaskError
from ledgerq_worker.node.cancel_requests import CancelRequests
from ledgerq_worker.node.killing import ask, kill_if, kill_if_alive, kill_remains, resume
from ledgerq_worker.node.parent import Parent
from ledgerq_worker.slot import termination
from ledgerq_worker.slot.table import SlotRecord, SlotTable

log = structlog.get_logger()

#: Seconds that a task has to end after a signal has asked it to; then it is killed.
_TIME_TO_CLEAN_UP = 10.0


class Killed(NamedTuple):
    """A slot whose process was killed, and what has to be written about it."""

    record: SlotRecord
    #: How its task ended; None: the task did not end.
    end: Statement[tuple[str]] | None
    why: str


class Enforcement:
    """Kills processes of one node's pool.

    Args:
        parent: the parent of the pool's processes.
        is_prefork: whether slots have processes of their own; threads have none, and then nothing is killed.
        kills_programs: also end programs that tasks have started.
        actor: the actor for the event log.
    """

    def __init__(self, table: SlotTable, parent: Parent, *, is_prefork: bool, kills_programs: bool, actor: str) -> None:
        self._table = table
        self._parent = parent
        self._is_prefork = is_prefork
        self._kills_programs = kills_programs
        self._actor = actor
        #: By slot: what was killed while the ledger does not know it yet.
        self.killed: dict[int, Killed] = {}
        #: Since when tasks have been asked to end.
        self._asked: dict[CancelRequest, float] = {}

    def keep_limits(self, now: float) -> None:
        """End tasks whose hard limit is over, by the monotonic clock."""
        for record in self._table.read():
            if record.task_id and 0 < record.deadline < now:
                limit = record.deadline - record.begun_at
                end = _hard_limit(record, limit, actor=self._actor)
                if self._kill(record, end, f"hard time limit of {limit:g} s", self._table.is_unchanged):
                    log.warning("worker.hard_limit", task_id=record.task_id, pid=record.pid, seconds=limit)

    def terminate(self, requests: CancelRequests, now: float) -> None:
        """End, together with their process, the tasks that somebody asked to terminate, by the monotonic clock. If it
        was with a signal, the task is asked first, each time, and has a while to clean up.
        """
        asked, self._asked = self._asked, {}
        for record, request in requests.running():
            if request.terminate:
                signal = requests.signals.get(request.task_id)
                if signal not in (None, SIGKILL) and self._is_prefork:
                    since = self._asked[request] = asked.get(request, now)
                    if now - since < _TIME_TO_CLEAN_UP:
                        ask(record.pid)
                        continue
                end = _termination(record, signal, actor=self._actor)
                if self._kill(record, end, "the task was terminated", self._table.is_unchanged):
                    log.warning("worker.task.terminated", task_id=record.task_id, pid=record.pid)

    def replace(self, record: SlotRecord) -> None:
        """End a process that stands still. No task is charged, because it is not known that a task is at fault."""
        if self._kill(record, None, "its process did nothing it should for long", self._table.is_as_it_was):
            log.error(
                "worker.slot.stuck",
                slot=record.slot,
                pid=record.pid,
                task_id=record.task_id,
                what="the process does nothing it should: another takes its place, what it held goes back",
            )

    def resume_all(self) -> None:
        """Resume processes that an earlier agent has stopped: it may have died between its question and the kill."""
        for record in self._own_processes():
            resume(record.pid)

    def kill_all(self) -> None:
        """End the pool, because its parent is gone."""
        for record in self._own_processes():
            kill_if_alive(record.pid, with_programs=self._kills_programs)

    def kill_remains(self, record: SlotRecord) -> None:
        """End programs that tasks of a dead process have left running."""
        if self._kills_programs:
            kill_remains(record.pid, parent=self._parent.pid)

    def _own_processes(self) -> list[SlotRecord]:
        """The node's processes. A parent that is gone cannot tell which these are: a process that has the node's slot
        table in its memory belongs to the node.
        """
        records = self._table.read() if self._is_prefork else []
        return [record for record in records if self._table.is_shared_with(record.pid)]

    def _kill(
        self, record: SlotRecord, end: Statement[tuple[str]] | None, why: str, is_still: Callable[[SlotRecord], bool]
    ) -> bool:
        """Kill the slot's process; returns whether it was killed, because its task may have ended by itself and another
        task may run there now.
        """
        if not self._is_prefork or record.slot in self.killed or not self._parent.has_child(record.pid):
            return False
        is_killed = kill_if(record.pid, lambda: is_still(record), with_programs=self._kills_programs)
        if is_killed:
            self.killed[record.slot] = Killed(record, end, why)
        return is_killed


def _hard_limit(record: SlotRecord, limit: float, *, actor: str) -> Statement[tuple[str]]:
    """FAILURE `TimeLimitExceeded` for the task in this slot, guarded by its claim like every write."""
    assert record.task_id is not None
    error = {
        "type": TaskError.TIME_LIMIT_EXCEEDED.value,
        "message": f"The task ran longer than its hard time limit of {limit:g} s and was killed.",
        "traceback": None,
        "retryable": True,
    }
    return end_from_outside(
        task_id=record.task_id,
        claim_no=record.claim_no,
        state=State.FAILURE,
        error=json.dumps(error, separators=(",", ":")),
        data=json.dumps({"limit": "hard", "seconds": limit}, separators=(",", ":")),
        actor=actor,
    )


def _termination(record: SlotRecord, signal: int | None, *, actor: str) -> Statement[tuple[str]]:
    """REVOKED for the task in this slot, guarded by its claim like every write. ``signal``: the one that was asked for."""
    assert record.task_id is not None
    return end_from_outside(
        task_id=record.task_id,
        claim_no=record.claim_no,
        state=State.REVOKED,
        error=None,
        data=termination.data_of_end(signal),
        actor=actor,
    )
