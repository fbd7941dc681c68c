"""API, workers and maintenance of one test, and short ways to give them work."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledgerq_shared.broker import Broker, Demand
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.states import FINAL
from tests.chaos.support import chaos_tasks_path
from tests.chaos.support.journal import Journal
from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.stack import Running, Stack

MODULE = "chaos_tasks"


@dataclass(frozen=True)
class Row:
    """What the ledger has of a task."""

    state: str
    attempt: int
    worker_deaths: int
    result: Any
    error: dict[str, Any] | None


@dataclass
class Plant:
    """Submits straight into the ledger, starts what is to be killed, knows what was accepted.

    ``database_url`` is the tests' own way to PostgreSQL; services may have another (through a proxy).
    """

    stack: Stack
    database_url: str
    redis_url: str
    #: Seconds: the short form's; the long one uses the product's own.
    lease: float
    accepted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay the task module out."""
        shutil.copy(chaos_tasks_path(), self.folder / f"{MODULE}.py")
        self.stack.environment.update(
            LEDGERQ_TASK_MODULES=MODULE,
            LEDGERQ_LEASE_SECONDS=str(self.lease),
            LEDGERQ_LEADER_SECONDS=str(max(1.0, self.lease / 2.5)),
            LEDGERQ_LOG_LEVEL="warning",
        )
        self.journal = Journal(self.folder)
        self._database = Database(self.database_url, application_name="test")
        self._broker = Broker(self.redis_url, client_name="test")

    @property
    def folder(self) -> Path:
        """Where the services run; gates are made here."""
        return self.stack.folder

    def close(self) -> None:
        """Disconnect."""
        self._database.close()
        self._broker.close()

    def worker(self, slots: int = 2, **environment: str) -> Running:
        """Start a node and wait until it is registered."""
        [running] = self.several_workers(1, slots, **environment)
        return running

    def several_workers(self, count: int, slots: int = 2, **environment: str) -> list[Running]:
        """Start so many nodes at the same time and wait until they are registered."""
        before = self.workers()
        started = [self.stack.worker(LEDGERQ_WORKER_CONCURRENCY=str(slots), **environment) for _ in range(count)]
        wait.until(
            lambda: self.workers() >= before + count,
            60,
            what=lambda: f"{count} workers register; {' '.join(running.log() for running in started)}",
        )
        return started

    def workers(self) -> int:
        """How many nodes were ever registered."""
        return int(self.scalar("SELECT count(*) FROM worker"))

    def live_workers(self) -> int:
        """How many nodes are alive by the ledger."""
        return int(self.scalar("SELECT count(*) FROM worker WHERE ended_at IS NULL AND lease_until > now()"))

    def maintenance(self, **environment: str) -> Running:
        """Start a maintenance process."""
        return self.stack.maintenance(**environment)

    def submit(
        self, name: str, options: NewTaskOptions | None = None, queue: str = "default", **parameters: Any
    ) -> str:
        """Accept one task; returns its id."""
        return self.submit_all(name, [parameters], options, queue)[0]

    def submit_all(
        self,
        name: str,
        parameters: Sequence[dict[str, Any]],
        options: NewTaskOptions | None = None,
        queue: str = "default",
    ) -> list[str]:
        """Accept a batch; returns the ids."""
        new = [
            NewTask(new_task_id(), f"{MODULE}.{name}", queue, json.dumps(one), options=options) for one in parameters
        ]
        with self._database.transaction() as cursor:
            execute(cursor, submit_tasks(new))
        self._broker.wake(Demand(queue, len(new), 4))
        ids = [str(task.id) for task in new]
        self.accepted += ids
        return ids

    def row(self, task_id: str) -> Row:
        """The task as it is now."""
        [(state, attempt, deaths, result, error)] = databases.rows(
            self.database_url,
            "SELECT state, attempt, worker_deaths, result::text, error FROM task WHERE id = %s",
            (task_id,),
        )
        return Row(str(state), attempt, deaths, json.loads(str(result)) if result is not None else None, error)  # type: ignore[arg-type]

    def events(self, task_id: str) -> list[str]:
        """The kinds of the task's history, expanded."""
        return [event.kind for event in ledger_checks.read(self.database_url).events[task_id]]

    def scalar(self, sql: str) -> Any:
        """The only value of a query."""
        return databases.rows(self.database_url, sql)[0][0]

    def open(self, gate: str) -> None:
        """Let the tasks that wait for this gate go on."""
        (self.folder / gate).touch()

    def begun(self, task_id: str, times: int = 1, timeout: float = 30.0) -> float:
        """Wait until the task's code has begun so often; returns when, by the monotonic clock."""
        wait.until(
            lambda: len(self.journal.of(task_id)) >= times,
            timeout,
            what=lambda: f"run {times} of {task_id}: {self.row(task_id)} {self.journal.of(task_id)}",
        )
        return self.journal.of(task_id)[times - 1].began_at

    def recorded(self, task_id: str, state: str, timeout: float = 30.0) -> None:
        """Wait until the ledger has the task in this state."""
        wait.until(lambda: self.row(task_id).state == state, timeout, what=lambda: f"{state}: {self.row(task_id)}")

    def unfinished(self) -> int:
        """How many tasks have not ended."""
        return int(self.scalar("SELECT count(*) FROM task WHERE completed_at IS NULL"))

    def ended(self, task_id: str, timeout: float = 60.0) -> Row:
        """The task after it has ended."""
        wait.until(lambda: self.row(task_id).state in FINAL, timeout, what=lambda: f"{task_id}: {self.row(task_id)}")
        return self.row(task_id)

    def all_ended(self, timeout: float = 120.0) -> None:
        """Wait until nothing is unfinished."""
        wait.until(lambda: self.unfinished() == 0, timeout, interval=0.2, what=self._unfinished_tasks)

    def assert_sound(self, accepted: Iterable[str] | None = None) -> None:
        """Everything accepted has ended, each once, its history is legal, and the counters are exact."""
        ledger_checks.assert_all_ended(self.database_url, self.accepted if accepted is None else accepted)
        assert not self.journal.overlaps(), self.journal.overlaps()

    def _unfinished_tasks(self) -> str:
        return "\n".join(
            str(row)
            for row in databases.rows(
                self.database_url,
                """SELECT t.id, t.task_type, t.state, t.attempt, c.no, c.slot, w.name, w.ended_why, r.queue, h.reason
                   FROM task t LEFT JOIN claim c ON t.id = ANY(c.task_ids) LEFT JOIN worker w ON w.id = c.worker_id
                   LEFT JOIN ready r ON r.task_id = t.id LEFT JOIN held h ON h.task_id = t.id
                   WHERE t.completed_at IS NULL LIMIT 20""",
            )
        )
