"""Who takes part in the drain: started with two processes, held, given a backlog, let go."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from benchmarks import counting
from benchmarks.bed import Bed
from ledgerq_shared.broker import Broker, Demand
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
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
    #: Arguments of `program` that start the worker.
    worker: list[str]
    #: … that make a backlog; the number of tasks follows.
    fill: list[str]
    #: Set for a peer on PostgreSQL: what makes its tables.
    schema: list[str] = field(default_factory=list)
    #: … and a question that is true once everything is recorded. Empty: executed is all that there is to know.
    recorded: str = ""
    #: Arguments of the peers' Python for a process beside.
    beside: list[str] = field(default_factory=list)
    #: Finds what runs `worker`, `fill` and `schema`; None: the peers' Python.
    program: Callable[[], str] | None = None

    @contextlib.contextmanager
    def held(self, bed: Bed) -> Iterator[Held]:
        program = self.program() if self.program else bed.peers_python
        database = databases.create(bed.postgres_url)
        try:
            with bed.bare(python=program, BENCH_DATABASE=database) as stack:
                if self.schema:
                    stack.run(*self.schema)
                if self.beside:
                    start_beside(bed, stack, self.beside)
                running = stack.start("worker", *self.worker)
                held = _HeldPeer(self, database, stack, running, {"worker": running.pid, **bed.stores})
                held.fill(_WARM_UP)
                wait.until(
                    lambda: counting.total(bed.counts) >= _WARM_UP, 60, what=f"{self.name} has warmed up", interval=0.01
                )
                held.hold()
                yield held
                held.release()
        finally:
            databases.drop(bed.postgres_url, database)


def start_beside(bed: Bed, stack: Stack, arguments: list[str]) -> None:
    """A process of the peers' Python, whatever runs the rest."""
    stack.python, own = bed.peers_python, stack.python
    stack.start("beside", *arguments)
    stack.python = own


@dataclass
class _HeldPeer:
    peer: Peer
    database: str
    stack: Stack
    running: Running
    roots: dict[str, int]

    def hold(self) -> None:
        self._signal(signal.SIGSTOP)

    def fill(self, number: int) -> None:
        self.stack.run(*self.peer.fill, str(number))

    def release(self) -> None:
        self._signal(signal.SIGCONT)

    def is_done(self) -> bool:
        return not self.peer.recorded or bool(databases.rows(self.database, self.peer.recorded)[0][0])

    def _signal(self, number: int) -> None:
        root = psutil.Process(self.running.pid)
        for process in [root, *root.children(recursive=True)]:
            process.send_signal(number)


@dataclass
class LedgerQ:
    """Ours, with everything on: events, counts, claims, fencing, limits. Two plug tasks hold its two slots."""

    name: str = "LedgerQ"
    keeps: str = "row, state, times, gapless history, exact counts; statements prepared"
    share: float = 1.0
    task: str = "benchmarks.tasks.noop"
    pgbouncer: bool = False
    flower: bool = False

    @contextlib.contextmanager
    def held(self, bed: Bed) -> Iterator[Held]:
        with contextlib.ExitStack() as exits:
            stack = exits.enter_context(bed.stack(LEDGERQ_TASK_MODULES="benchmarks.tasks"))
            own_url = stack.environment["DATABASE_URL"]
            beside: dict[str, int] = {}
            if self.pgbouncer:
                bouncer = PgBouncer(bed.folder, own_url, pool_size=20)
                exits.callback(bouncer.stop)
                beside["pgbouncer"] = bouncer.start()
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
            roots = {"worker": running.pid, "maintenance": maintenance.pid, **bed.stores, **beside}
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
        start_beside(bed, stack, FLOWER)
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
        self.broker.wake(Demand("default", number, 2))

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
