"""Who takes part in the drain: started with two processes, held, given a backlog, let go."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from benchmarks import counting
from benchmarks.bed import Bed
from ledgerq_shared.broker import Broker
from ledgerq_shared.database import Database, execute
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from tests.support import databases, wait
from tests.support.pgbouncer import PgBouncer
from tests.support.stack import Running, Stack

#: Arguments of Flower, from the peers' environment.
FLOWER = [
    *("-m", "celery", "-A", "benchmarks.peers.celery_app", "flower"),
    *("--port=0", "--address=127.0.0.1", "--logging=error"),
]

_WARM_UP = 500
_FILL_AT_ONCE = 1000


class Held(Protocol):
    """A system that waits with a backlog."""

    #: name -> pid of the process trees whose CPU counts.
    roots: dict[str, int]

    def fill(self, number: int) -> None: ...
    def release(self) -> None: ...
    def is_done(self) -> bool: ...


class Contender(Protocol):
    """A system under measurement."""

    name: str
    #: What is left of a task afterwards.
    keeps: str
    #: Backlog as a part of N: each drain should last some seconds.
    share: float

    def held(self, bed: Bed) -> contextlib.AbstractContextManager[Held]: ...


@dataclass
class Peer:
    """A worker process tree, stopped by SIGSTOP while its backlog is made."""

    name: str
    keeps: str
    share: float
    module: str
    worker: list[str]
    fill: list[str] = field(default_factory=list)
    #: Set for a peer on PostgreSQL: what makes its tables.
    schema: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def held(self, bed: Bed) -> Iterator[Held]:
        database = databases.create(bed.postgres_url)
        try:
            with bed.bare(python=bed.peers_python, BENCH_DATABASE=database) as stack:
                if self.schema:
                    stack.run("-m", self.module, *self.schema)
                if self.beside:
                    stack.start("beside", *self.beside)
                running = stack.start("worker", *self.worker)
                held = _HeldPeer(self, stack, running, {"worker": running.pid, **bed.stores})
                stack.run("-m", self.module, str(_WARM_UP), *self.fill)
                wait.until(
                    lambda: counting.total(bed.counts) >= _WARM_UP, 60, what=f"{self.name} has warmed up", interval=0.01
                )
                held.hold()
                yield held
                held.release()
        finally:
            databases.drop(bed.postgres_url, database)


@dataclass
class _HeldPeer:
    peer: Peer
    stack: Stack
    running: Running
    roots: dict[str, int]

    def hold(self) -> None:
        self._signal(signal.SIGSTOP)

    def fill(self, number: int) -> None:
        self.stack.run("-m", self.peer.module, str(number), *self.peer.fill)

    def release(self) -> None:
        self._signal(signal.SIGCONT)

    def is_done(self) -> bool:
        return True  # it has been executed, and these keep no more than that

    def _signal(self, number: int) -> None:
        root = psutil.Process(self.running.pid)
        for process in [root, *root.children(recursive=True)]:
            process.send_signal(number)


@dataclass
class LedgerQ:
    """Ours, with everything on: events, counts, claims, fencing, limits. Two plug tasks hold its two slots."""

    name: str = "LedgerQ"
    keeps: str = "row, state, times, gapless history, exact counts"
    share: float = 1.0
    task: str = "benchmarks.tasks.noop"
    pgbouncer: bool = False
    flower: bool = False

    @contextlib.contextmanager
    def held(self, bed: Bed) -> Iterator[Held]:
        with contextlib.ExitStack() as exits:
            stack = exits.enter_context(bed.stack(LEDGERQ_TASK_MODULES="benchmarks.tasks"))
            own_url = stack.environment["DATABASE_URL"]
            if self.pgbouncer:
                bouncer = PgBouncer(bed.folder, own_url, pool_size=20)
                exits.callback(bouncer.stop)
                bouncer.start()
                stack.environment["DATABASE_URL"] = bouncer.url
            stack.register()
            running = stack.worker()
            if self.flower:
                self._watch(bed, stack, running)
            maintenance = stack.maintenance()
            database = Database(own_url, application_name="bench")
            exits.callback(database.close)
            broker = Broker(bed.redis_url, client_name="bench")
            exits.callback(broker.close)
            roots = {
                "worker": running.pid,
                "maintenance": maintenance.pid,
                "postgres": bed.postgres_pid,
                "redis": bed.redis_pid,
            }
            held = _HeldLedgerQ(self.task, stack, database, broker, roots)
            held.submit(self.task, _WARM_UP)
            wait.until(
                lambda: counting.total(bed.counts) >= _WARM_UP, 60, what="the worker has warmed up", interval=0.01
            )
            held.hold()
            yield held
            held.release()

    @staticmethod
    def _watch(bed: Bed, stack: Stack, worker: Running) -> None:
        """Start Flower and wait until the worker has noticed that somebody listens."""
        stack.python, own = bed.peers_python, stack.python
        stack.start("flower", *FLOWER)
        stack.python = own
        worker.says("worker.events.on", timeout=60)


@dataclass
class _HeldLedgerQ:
    """Our side of the drain."""

    task: str
    stack: Stack
    database: Database
    broker: Broker
    roots: dict[str, int]

    def submit(self, task: str, number: int, **parameters: object) -> None:
        text = json.dumps(parameters)
        for start in range(0, number, _FILL_AT_ONCE):
            tasks = [NewTask(new_task_id(), task, "default", text) for _ in range(min(_FILL_AT_ONCE, number - start))]
            with self.database.transaction() as cursor:
                execute(cursor, submit_tasks(tasks))
        self.broker.wake("default", number, 2)

    def hold(self) -> None:
        folder = self.stack.folder
        for number in (1, 2):
            self.submit("benchmarks.tasks.plug", 1, folder=str(folder))
            wait.until(lambda: len(list(folder.glob("plugged-*"))) >= number, 60, what="a plug runs")  # noqa: B023 - called at once

    def fill(self, number: int) -> None:
        self.submit(self.task, number)

    def release(self) -> None:
        (self.stack.folder / "go").touch()

    def is_done(self) -> bool:
        """Everything is recorded."""
        with self.database.transaction() as cursor:
            cursor.execute(
                "SELECT NOT EXISTS (SELECT FROM ready) AND NOT EXISTS (SELECT FROM claim WHERE cardinality(task_ids) > 0)"
            )
            [(done,)] = cursor.fetchall()
        return bool(done)
