"""Runs every busy statement once, in the order of a task's life, in a transaction that is rolled back."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from uuid import uuid4

import psycopg2

from ledgerq_shared.ids import new_task_ids
from ledgerq_shared.postgres.database import Cursor, Database, confirmation, execute
from ledgerq_shared.sql import Row, Statement
from ledgerq_shared.statements import (
    cancel,
    catalogue,
    dispatch,
    expire,
    idempotency,
    leader,
    outbox,
    read_stream,
    read_task,
    record,
    recover,
    submit,
    unique,
    workers,
)
from ledgerq_shared.statements.api_keys import read_usable_keys
from ledgerq_shared.statements.claim import claim_tasks, hand_back, has_ready
from ledgerq_shared.states import State

#: The name of its queue and type, which nobody else uses, so that no worker is affected by a rehearsal.
_NAME = "ledgerq.doctor"


class _RollBack(Exception):
    """Raised at the end of every rehearsal."""


class Rehearsal:
    """Runs statements and keeps PostgreSQL's errors; after a refused statement the next ones still run."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.names: list[str] = []
        #: By statement: why it was refused.
        self.refused: dict[str, str] = {}

    def run(self, name: str, statement: Statement[Row]) -> list[Row]:
        """The statement's rows; none if it was refused."""
        self.names.append(statement.name or name)
        self._cursor.execute("SAVEPOINT rehearsal")
        try:
            rows = execute(self._cursor, statement)
        except psycopg2.Error as error:
            if self._cursor.connection.closed:
                raise
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self.refused[statement.name or name] = f"{first} (SQLSTATE {error.pgcode})"
            self._cursor.execute("ROLLBACK TO SAVEPOINT rehearsal")
            return []
        self._cursor.execute("RELEASE SAVEPOINT rehearsal")
        return rows


def rehearse(database: Database) -> Rehearsal:
    """Rehearse all statements. It leaves nothing behind, and others hardly notice it: it does not wait long for any
    lock, and holds few.

    Raises:
        LedgerUnavailable: the connection was lost.
    """
    rehearsal: Rehearsal | None = None
    with contextlib.suppress(_RollBack), database.transaction() as cursor:
        cursor.execute("SELECT")  # begins the transaction, which a savepoint cannot do
        rehearsal = Rehearsal(cursor)
        _live(rehearsal)
        raise _RollBack
    assert rehearsal is not None
    return rehearsal


def _live(on: Rehearsal) -> None:
    ids = new_task_ids(6)
    plain = [submit.NewTask(one, _NAME, _NAME, "{}") for one in ids[:3]]
    tagged = submit.NewTask(ids[3], _NAME, _NAME, "{}", options=submit.NewTaskOptions(tags=["doctor"]))
    later = submit.NewTask(ids[4], _NAME, f"{_NAME}.other", "{}", options=submit.NewTaskOptions(countdown=60.0))
    keyed = submit.NewTask(ids[5], _NAME, _NAME, "{}", options=submit.NewTaskOptions(unique_key="doctor"))
    entry = catalogue.CatalogueEntry(_NAME, "", "{}", _NAME, "{}")
    on.run("register_task_types", catalogue.register_task_types([entry]))
    on.run("read_usable_keys", read_usable_keys())
    on.run("reserve_keys", idempotency.reserve_keys([idempotency.KeyedSubmit(_NAME, bytes(32), ids[0])]))
    on.run("find_keys", idempotency.find_keys([idempotency.KeyedSubmit(_NAME, bytes(32), ids[0])]))
    on.run("submit_plain_tasks", submit.submit_tasks(plain, are_new=True))
    on.run("submit_tasks", submit.submit_tasks([tagged]))
    on.run("submit_tasks_of_several", submit.submit_tasks([plain[0], later._replace(actor="doctor")]))
    on.run("submit_unique_tasks", unique.submit_unique_tasks([keyed]))
    on.run("confirm", confirmation())
    _work(on, [str(one) for one in ids])
    _look(on, [str(one) for one in ids])
    _maintain(on)


def _work(on: Rehearsal, ids: list[str]) -> None:
    worker_id = uuid4()
    on.run("register_worker", workers.register_worker(
        worker_id=worker_id, name=_NAME, host=_NAME, pid=0, pool="solo", slots=1, queues=[_NAME], task_types=[_NAME],
        lease=60.0,
    ))  # fmt: skip
    on.run("renew_lease", workers.renew_lease(worker_id=worker_id, lease=60.0, stopping=False))
    on.run("has_ready", has_ready(_NAME))
    claimed = on.run("claim_tasks", claim_tasks(
        worker_id=worker_id, slot=0, queue=_NAME, limit=5, budget=60.0, cost_of_type={}, unknown_cost=0.001, low_water={}
    ))  # fmt: skip
    held = [(task.id, task.claim_no) for task in claimed] or [(ids[0], 0)]
    (first, no), (last, _) = held[0], held[-1]
    begun = record.Begun(first, no, 1, State.PENDING, 0.1)
    on.run("record_begun", record.record_begun([begun]))
    on.run("record_progress", record.record_progress([record.Progress(first, no, 1, 50.0, None, 0.0)]))
    on.run("record_log", record.record_log([record.LogLine(first, no, 1, "{}", 0.0)]))
    on.run("find_cancel_requests", cancel.find_cancel_requests(worker_id=worker_id))
    end = record.Ended(first, no, 1, State.STARTED, State.SUCCESS, 0.1, 0.0, "1", None)
    on.run("record_ended", record.record_ended([end]))
    on.run("refuse", record.refuse([(first, no, "SUCCESS")], worker=_NAME))
    on.run("hand_back", hand_back({last: no}))
    on.run("put_in_outbox", outbox.put_in_outbox("doctor", ["{}"]))
    on.run("revoke_waiting", cancel.revoke_waiting([ids[3]], actor=_NAME))
    on.run("request_cancel", cancel.request_cancel(last, actor=_NAME))
    on.run("find_claims", recover.find_claims(worker_id))
    on.run("recover_claims", recover.recover_claims(
        worker_id=worker_id, suspects=None, quarantine_after=3, why="doctor", actor=_NAME
    ))  # fmt: skip
    on.run("end_worker", workers.end_worker(worker_id=worker_id, why="stopped"))


def _look(on: Rehearsal, ids: list[str]) -> None:
    on.run("read_statuses", read_task.read_statuses(ids))
    on.run("read_task", read_task.read_task(ids[0]))
    on.run("read_events", read_task.read_events(ids[0], submitted_at=datetime.now(UTC), after=0, limit=10))
    on.run("read_news", read_stream.read_news(ids[:1], [0], limit=10))
    on.run("read_catalogue", catalogue.read_catalogue())


def _maintain(on: Rehearsal) -> None:
    """Touches as few real rows as possible, because others cannot use them until the end."""
    on.run("take_leadership", leader.take_leadership(name=_NAME, holder=uuid4(), lease=1.0))
    on.run("what_to_do", dispatch.what_to_do(ahead=0.0))
    on.run("slots_by_queue", dispatch.slots_by_queue())
    on.run("promote_due", dispatch.promote_due(limit=1))
    on.run("expire", expire.expire(limit=1))
    on.run("find_lost_workers", workers.find_lost_workers())
