"""A worker with its maintenance process, and short ways to give it work."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery

from ledgerq_shared.broker import Broker, Demand
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_worker.slot.table import SlotTable
from tests.integration.worker import tasks_under_test
from tests.support import databases, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Running, Stack

_COLUMNS = "state, attempt, retries, result::text, error, progress, progress_status, worker_deaths"


@dataclass(frozen=True)
class Row:
    """What the ledger has of a task."""

    state: str
    attempt: int
    retries: int
    result: Any
    error: dict[str, Any] | None
    progress: float | None
    progress_status: str | None
    worker_deaths: int


@dataclass
class Work:
    """Submits straight into the ledger and waits for what becomes of it."""

    stack: Stack
    database_url: str
    database: Database
    broker: Broker

    def start(self, **environment: str) -> Running:
        """Start a worker that knows the tasks under test."""
        return self.stack.worker(LEDGERQ_TASK_MODULES="custom_tasks,contract_tasks", **environment)

    def submit(
        self, name: str, options: NewTaskOptions | None = None, queue: str = "default", **parameters: Any
    ) -> str:
        """Accept a task of ``contract_tasks`` (or of the module in ``name``); return its id."""
        full = name if "." in name else f"contract_tasks.{name}"
        task = NewTask(new_task_id(), full, queue, json.dumps(parameters), options=options)
        with self.database.transaction() as cursor:
            execute(cursor, submit_tasks([task]))
        self.broker.wake(Demand(queue, 1, 2))
        return str(task.id)

    def row(self, task_id: str) -> Row:
        """The task as it is now."""
        [found] = databases.rows(self.database_url, f"SELECT {_COLUMNS} FROM task WHERE id = '{task_id}'")
        state, attempt, retries, result, *rest = found
        return Row(state, attempt, retries, None if result is None else json.loads(result), *rest)  # type: ignore[arg-type, call-overload]

    def ended(self, task_id: str, timeout: float = 30.0) -> Row:
        """The task after it has ended."""
        final = ("SUCCESS", "FAILURE", "REVOKED")
        wait.until(lambda: self.row(task_id).state in final, timeout, what=lambda: str(self.row(task_id)))
        return self.row(task_id)

    def run(self, name: str, options: NewTaskOptions | None = None, **parameters: Any) -> Row:
        """Submit and wait."""
        return self.ended(self.submit(name, options, **parameters))


@pytest.fixture
def table() -> Iterator[SlotTable]:
    """A node's slot table, with one slot."""
    made = SlotTable.create(1)
    yield made
    made.remove()


@pytest.fixture
def pool_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, to stand for one of the pool."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def work(stack: Stack, database: str, redis_database: str) -> Iterator[Work]:
    """Maintenance runs; start workers with :meth:`Work.start`."""
    (stack.folder / "custom_tasks.py").write_text(tasks_under_test.CUSTOM)
    (stack.folder / "contract_tasks.py").write_text(tasks_under_test.CONTRACT)
    stack.maintenance(LEDGERQ_TASK_MODULES="custom_tasks,contract_tasks")
    pool = Database(database, application_name="test")
    yield Work(stack, database, pool, Broker(redis_database, client_name="test"))
    pool.close()


@pytest.fixture
def client(redis_database: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_database) as client:
        yield client


@pytest.fixture
def producer(redis_database: str) -> Iterator[Celery]:
    with Celery("producer", broker=redis_database, set_as_current=False) as app:
        app.conf.task_default_queue = "default"
        yield app


@pytest.fixture
def client_app(redis_database: str) -> Iterator[Celery]:
    """An application without LedgerQ, with a result backend."""
    with Celery("client", broker=redis_database, backend=redis_database, set_as_current=False) as app:
        app.conf.task_default_queue = "default"
        yield app
        app.backend.result_consumer.stop()
        app.backend.result_consumer.subscribed_to.clear()  # results that die later would connect anew
        app.backend.client.connection_pool.disconnect()
