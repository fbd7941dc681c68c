"""The real ledger as the machine drives it: the statements of API, worker and maintenance on one database."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2

from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.statements import record
from ledgerq_shared.statements.cancel import revoke_waiting
from ledgerq_shared.statements.claim import ClaimedTask, hand_back
from ledgerq_shared.states import State
from ledgerq_shared.tasks.cancelling import cancel
from tests.model.expected import QUARANTINE_AFTER
from tests.model.machine import QUEUE_NAMES
from tests.support import ledger_checks, wait
from tests.support.lives import claiming, registration
from tests.support.reaping import reaper

if TYPE_CHECKING:
    from ledgerq_shared.sql import Row, Statement
    from tests.model.expected import Task
    from tests.support.api import Api

T = TypeVar("T")

LATER = 3600.0

_SEEN = """
SELECT t.id::text, t.state, t.queue, t.attempt, t.retries, t.worker_deaths, t.cancel_requested_at IS NOT NULL,
       CASE WHEN r.task_id IS NOT NULL THEN 'ready' WHEN h.task_id IS NOT NULL THEN 'held'
            WHEN c.no IS NOT NULL THEN 'claim' ELSE '' END,
       coalesce(r.alone, h.alone), c.no
FROM task t LEFT JOIN ready r ON r.task_id = t.id LEFT JOIN held h ON h.task_id = t.id
LEFT JOIN claim c ON c.task_ids @> ARRAY[t.id]
"""


#: What stays between two runs.
_KEPT = {"alembic_version", "task_type"}

_TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""


class RealLedger:
    """One database, the API on it, and workers that exist only in it."""

    def __init__(self, url: str, api: Api) -> None:
        self.api = api
        # No plug is pulled here: a commit need not wait for the disk.
        quick = f"{url}?options=-csynchronous_commit%3Doff"
        self._database = Database(quick, application_name="test-model", size=3)
        self._checks = psycopg2.connect(quick)
        self._checks.set_session(isolation_level="REPEATABLE READ", readonly=True)
        self.reap = reaper(self._database, quarantine_after=QUARANTINE_AFTER).run_once

    def close(self) -> None:
        """Disconnect."""
        self._database.close()
        self._checks.close()

    def clear(self) -> None:
        """Forget everything but the catalogue."""
        tables = sorted({name for (name,) in self.sql(_TABLES)} - _KEPT)
        # As a replica, for the event log refuses to be deleted.
        self.sql("SET LOCAL session_replication_role = replica; " + "; ".join(f"DELETE FROM {name}" for name in tables))

    def problems(self) -> list[str]:
        """What is unsound."""
        return ledger_checks.problems_of(ledger_checks.read_on(self._checks))

    def inside(self, work: Callable[[Cursor], T]) -> T:
        """Do it in a transaction of its own."""
        with self._database.transaction() as cursor:
            return work(cursor)

    def do(self, statement: Statement[Row]) -> list[Row]:
        """One statement, committed."""
        return self.inside(lambda cursor: execute(cursor, statement))

    def sql(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What no statement of LedgerQ does: look, and let time pass."""

        def work(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(text, parameters)
            return cursor.fetchall() if cursor.description is not None else []

        return self.inside(work)

    def seen(self) -> dict[str, tuple[Any, ...]]:
        """Every task as the model shows it."""
        return {row[0]: row[1:] for row in self.sql(_SEEN)}

    def keys(self) -> dict[str, str]:
        """Who holds which unique key."""
        return dict(self.sql("SELECT key, task_id::text FROM unique_key"))

    def register(self) -> uuid.UUID:
        """A new worker node."""
        worker_id = uuid.uuid4()
        self.do(registration(worker_id, f"node-{worker_id}", queues=QUEUE_NAMES, lease=LATER))
        return worker_id

    def claim(self, worker_id: uuid.UUID, slot: int, queue: str, limit: int) -> list[ClaimedTask]:
        """What the worker's slot gets."""
        return self.do(claiming(worker_id, queue, limit, slot=slot))

    def hand_back(self, claims: dict[str, int]) -> set[str]:
        """As a worker does; returns what was taken back."""

        def work(cursor: Cursor) -> set[str]:
            rows = execute(cursor, hand_back(claims))
            if cancelled := [row[0] for row in rows if row[2]]:
                execute(cursor, revoke_waiting(cancelled, actor="worker:test"))
            return {row[0] for row in rows}

        return self.inside(work)

    def hand_back_beside_a_cancel(self, task_id: str, no: int, *, terminate: bool) -> set[str]:
        """The hand-back waits for the cancel's locks; returns what was taken back."""
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test-model' AND wait_event_type = 'Lock'"
        )
        with ThreadPoolExecutor(1) as threads:
            with self._database.transaction() as cursor:
                cancel(cursor, task_id, actor="test", terminate=terminate)
                handing_back = threads.submit(self.hand_back, {task_id: no})
                wait.until(lambda: self.sql(waiting) == [(1,)], 30, interval=0.002, what="the hand-back waits")
            return handing_back.result(30)

    def go_on(self, leg: record.NextLeg) -> bool:
        """As the recorder does; whether it was accepted."""

        def work(cursor: Cursor) -> bool:
            rows = execute(cursor, record.record_next_leg(leg))
            if cancelled := [row[0] for row in rows if row[1]]:
                execute(cursor, revoke_waiting(cancelled, actor="worker:test"))
            return bool(rows)

        return self.inside(work)


def begun(task: Task, claim_no: int) -> Statement[tuple[str, bool]]:
    """Its code has begun."""
    return record.record_begun([record.Begun(task.id, claim_no, task.attempt + 1, task.state, 0.0)])


def progressed(task: Task, claim_no: int) -> Statement[tuple[str, bool]]:
    """It reports."""
    return record.record_progress([record.Progress(task.id, claim_no, task.attempt, 50.0, "half", 0.0)])


def logged(task: Task, claim_no: int) -> Statement[tuple[str, int]]:
    """It adds a line to its history."""
    return record.record_log([record.LogLine(task.id, claim_no, task.attempt, '{"message": "line"}', 0.0)])


def ended(tasks: Sequence[tuple[Task, int]], state: State, *, has_run: bool = True) -> Statement[tuple[str]]:
    """They have ended, in one flush."""
    return record.record_ended(
        [
            record.Ended(
                task.id, no, task.attempt + (has_run and task.state is not State.STARTED), task.state, state,
                0.01 if has_run else None, 0.0, "1" if state is State.SUCCESS else None,
                '{"type": "Error", "message": "no"}' if state is State.FAILURE else None,
            )
            for task, no in tasks
        ]
    )  # fmt: skip


def ended_from_outside(task: Task, claim_no: int, state: State) -> Statement[tuple[str]]:
    """A hard limit, or a termination."""
    return record.end_from_outside(task_id=task.id, claim_no=claim_no, state=state, error=None, data=None, actor="test")


def next_leg(task: Task, claim_no: int, state: State, queue: str, delay: float | None) -> record.NextLeg:
    """A retry, or a replacement."""
    return record.NextLeg(
        task.id, claim_no, task.attempt + (task.state is not State.STARTED), task.state, 0.01, state, "demo.anything",
        queue, task.priority, task.retries + (state is State.RETRY), delay, None, None, "{}", None, None,
    )  # fmt: skip
