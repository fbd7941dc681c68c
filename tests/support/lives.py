"""Make tasks live: what a worker writes into the ledger, without a worker."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.claim import ClaimedTask, claim_tasks
from ledgerq_shared.statements.record import (
    Begun,
    Ended,
    NextLeg,
    Progress,
    record_begun,
    record_ended,
    record_next_leg,
    record_progress,
)
from ledgerq_shared.statements.workers import register_worker
from ledgerq_shared.states import State

if TYPE_CHECKING:
    from types import TracebackType

    from ledgerq_shared.sql import Row, Statement


def registration(
    worker_id: uuid.UUID, name: str, *, queues: tuple[str, ...] = ("default", "documents"), lease: float = 60.0
) -> Statement[tuple[str]]:
    """A node appears that exists only in the ledger."""
    return register_worker(
        worker_id=worker_id,
        name=name,
        host="node-1",
        pid=os.getpid(),
        pool="prefork",
        slots=2,
        queues=queues,
        task_types=["demo.anything"],
        lease=lease,
    )


def claiming(worker_id: uuid.UUID, queue: str, limit: int, *, slot: int = 0) -> Statement[ClaimedTask]:
    """It claims what is ready, whatever that costs."""
    return claim_tasks(
        worker_id=worker_id,
        slot=slot,
        queue=queue,
        limit=limit,
        budget=1e9,
        cost_of_type={},
        unknown_cost=0.0,
        low_water={},
    )


@dataclass
class Worker:
    """A worker node that exists only in the ledger. Claims with it, then says how each task went."""

    database_url: str
    queues: tuple[str, ...] = ("default", "documents")
    name: str = "node-1:1"
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def __enter__(self) -> Self:
        """Register it."""
        self._database = Database(self.database_url, application_name="test-worker")
        self._do(registration(self.id, self.name, queues=self.queues))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; in the ledger it lives on."""
        self._database.close()

    def claim(self, queue: str = "default", limit: int = 100) -> dict[str, ClaimedTask]:
        """Claim what is ready; by id."""
        claimed = self._do(claiming(self.id, queue, limit))
        return {str(task.id): task for task in claimed}

    def begin(self, task: ClaimedTask) -> None:
        """Its code has begun."""
        begun = Begun(str(task.id), task.claim_no, task.attempt + 1, State(task.state), 0.0)
        assert self._do(record_begun([begun]))

    def progress(self, task: ClaimedTask, percent: float, status: str | None) -> None:
        """It says how far it is."""
        said = Progress(str(task.id), task.claim_no, task.attempt + 1, percent, status, 0.0)
        assert self._do(record_progress([said]))

    def end(
        self,
        task: ClaimedTask,
        state: State,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
        before: State | None = None,
    ) -> None:
        """It has ended; ``result`` is JSON text. ``before`` is STARTED after :meth:`begin`."""
        ended = Ended(
            str(task.id),
            task.claim_no,
            task.attempt + 1,
            before or State(task.state),
            state,
            0.01,
            0.0,
            result,
            None if error is None else json.dumps(error),
        )
        assert self._do(record_ended([ended]))

    def retry(self, task: ClaimedTask, delay: float) -> None:
        """It will be tried again."""
        leg = NextLeg(
            str(task.id),
            task.claim_no,
            task.attempt + 1,
            State(task.state),
            0.01,
            State.RETRY,
            task.task_type,
            task.queue,
            task.priority,
            task.retries + 1,
            delay,
            None,
            None,
            task.parameters,
            None,
            json.dumps({"reason": "once more"}),
        )
        assert self._do(record_next_leg(leg))

    def _do(self, statement: Statement[Row]) -> list[Row]:
        with self._database.transaction() as cursor:
            return execute(cursor, statement)
