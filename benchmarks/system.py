"""LedgerQ as it runs: API, worker, lease agent, maintenance, on a fresh database and an emptied Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import counting
from benchmarks.bed import Bed
from ledgerq_shared.postgres.database import Database
from tests.support import http, wait
from tests.support.stack import Running, Stack

NOOP = "benchmarks.tasks.noop"


@dataclass
class System:
    """What runs, and a look at the ledger."""

    stack: Stack
    api: Running
    maintenance: Running
    database: Database
    #: name -> pid of the process trees whose CPU counts.
    roots: dict[str, int]

    def start_worker(self, slots: int) -> None:
        """With as many prefork processes."""
        running = self.stack.worker(LEDGERQ_WORKER_CONCURRENCY=str(slots))
        self.roots["worker"] = running.pid

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Rows of a question."""
        with self.database.transaction() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def is_done(self) -> bool:
        """Everything that was accepted is recorded."""
        [(done,)] = self.ask(
            "SELECT NOT EXISTS (SELECT FROM ready) AND NOT EXISTS (SELECT FROM claim WHERE cardinality(task_ids) > 0)"
        )
        return bool(done)


@contextlib.contextmanager
def running(bed: Bed, *, slots: int = 2, warm_up: int = 20) -> Iterator[System]:
    """Started, and warmed up by as many no-ops over HTTP. ``slots`` 0: no worker."""
    with bed.stack(LEDGERQ_TASK_MODULES="benchmarks.tasks") as stack, contextlib.ExitStack() as exits:
        stack.register()
        api, maintenance = stack.api(), stack.maintenance()
        database = Database(stack.environment["DATABASE_URL"], application_name="bench")
        exits.callback(database.close)
        roots = {"api": api.pid, "maintenance": maintenance.pid, **bed.stores}
        system = System(stack, api, maintenance, database, roots)
        if slots:
            system.start_worker(slots)
            for number in range(1, warm_up + 1):
                http.request("POST", f"{api.url}/tasks/submit", {"task_type": NOOP})
                wait.until(lambda number=number: counting.total(bed.counts) >= number, 60, what="it has warmed up")  # type: ignore[misc]
        yield system
