"""What one pool process (or the one process of the threads and solo pools) needs to drain queues.

Nothing here survives a fork: the process that uses connections, threads and drains makes them on first use.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import structlog
from celery import Celery

from ledgerq_shared import outages
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.postgres.repeating import until_done
from ledgerq_shared.process.once import OncePerProcess
from ledgerq_shared.statements.recover import TakenBack
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.celery.outbox import Outbox
from ledgerq_worker.celery.results import Publisher
from ledgerq_worker.celery.seams.prefork import process_index
from ledgerq_worker.celery.task_events import TaskEvents
from ledgerq_worker.drain.claim_size import ClaimSize
from ledgerq_worker.drain.drain import Drain
from ledgerq_worker.drain.hand import Hand
from ledgerq_worker.drain.recorder import Recorder
from ledgerq_worker.drain.runner import Runner
from ledgerq_worker.drain.solitude import Solitude, kind_of
from ledgerq_worker.drain.watcher import Watcher
from ledgerq_worker.recovering import Loss, Recovering
from ledgerq_worker.settings import WorkerSettings
from ledgerq_worker.slot import forks
from ledgerq_worker.slot.composure import Composure, pool_signals
from ledgerq_worker.slot.pipes import pool_pipes
from ledgerq_worker.slot.table import SlotTable
from ledgerq_worker.slot.tally import TallySheet
from ledgerq_worker.stores import Stores

log = structlog.get_logger()

#: Seconds that a new process waits for the lease agent to clear its slot, and seconds between two looks.
_CLEARED_WITHIN = 5.0
_LOOK_AT_SLOT_EVERY = 0.005
#: How many connections a process whose slots are threads has at most: no more threads flush at the same moment.
_MOST_CONNECTIONS = 32


class _Own(NamedTuple):
    """The objects of one process."""

    database: Database
    waker: Waker
    recovering: Recovering
    #: By slot.
    drains: dict[int, Drain]
    #: Numbers the threads of a pool, in the order in which they first ask; each keeps its number.
    threads: Iterator[int]
    thread: threading.local


class PoolProcess:
    """Drains queues in the slots of this process. It is made in the parent, and every pool process inherits it.

    Args:
        table: the node's slot table.
        sheet: where the node's slots count what they do.
        acknowledged: task types that must not run a second time if a task came as a Celery message.
    """

    def __init__(
        self,
        app: Celery,
        stores: Stores,
        settings: WorkerSettings,
        table: SlotTable,
        sheet: TallySheet,
        *,
        acknowledged: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._stores = stores
        self._settings = settings
        self._table = table
        self._sheet = sheet
        self._acknowledged = acknowledged
        self._own = OncePerProcess(self._make_own)

    def drain(self, queue: str) -> None:
        """Do what a ticket for ``queue`` asks for, in the slot of the calling process or thread."""
        pool_signals.begin()
        try:
            self._drain(queue)
        finally:
            pool_pipes.leave_if_lost()
            pool_signals.end(is_stopping=self._table.is_stopping)

    def _drain(self, queue: str) -> None:
        self._table.took_ticket()
        drains, slot = self._own().drains, self._slot()
        if slot not in drains:
            if not self._is_cleared(slot):
                return  # the ticket is lost, and the next sweep replaces it
            # A commit that the predecessor sent just before its death may have become visible after the slot was
            # cleared.
            self._return_claims(slot)
            drains[slot] = self._make(slot)
        try:
            drains[slot].run(queue)
        except BaseException:
            # Let the next drain start without the state of this one.
            drains.pop(slot, None)
            self._return_claims(slot)
            self._table.rest(slot)
            raise

    def _is_cleared(self, slot: int) -> bool:
        """Wait until the lease agent has taken back the tasks of a process that died in this slot.

        The agent takes back whole slots, so it would also take what this process claims before that.
        """
        deadline = time.monotonic() + _CLEARED_WITHIN
        while self._table.occupant(slot) not in (0, os.getpid()):
            if self._table.is_stopping or time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_AT_SLOT_EVERY)
        return True

    def _return_claims(self, slot: int) -> None:
        """Return the tasks that this slot holds in the ledger and that no process remembers; none is charged with a
        death.
        """

        def once(_: bool) -> list[TakenBack]:
            worker_id = self._table.worker_id
            loss = Loss(worker_id, "the slot began anew", slot, begun=self._table.begun(slot))
            return self._own().recovering.take_back(loss) if worker_id.int else []

        rows = until_done(once, what="worker.slot", slot=slot)
        if rows:
            log.warning("worker.slot.returned", slot=slot, tasks=[row.id for row in rows])

    def _make_own(self) -> _Own:
        forks.watch()
        if self._settings.worker_pool == "prefork":
            outages.leave_to_node()
        drains: dict[int, Drain] = {}
        # A slot's own thread and its watcher take turns with a connection: they write in one flush, or write little.
        database, waker = self._stores.connect(min(self._slots, _MOST_CONNECTIONS), lambda: self._spare(drains))
        recovering = Recovering(
            database,
            waker.wake,
            quarantine_after=self._settings.quarantine_after,
            actor=f"worker:{self._settings.name}",
        )
        return _Own(database, waker, recovering, drains, itertools.count(), threading.local())

    @property
    def _slots(self) -> int:
        """How many slots this process has."""
        return self._settings.slots if self._settings.worker_pool == "threads" else 1

    def _spare(self, drains: Mapping[int, Drain]) -> int:
        """How many unused connections to keep open: one for the next ticket or claim, but none while all slots run
        tasks.
        """
        found = list(drains.values())
        return int(len(found) < self._slots or not all(drain.is_running for drain in found))

    def _slot(self) -> int:
        """The caller's slot: a prefork child has Celery's index; a pool thread gets the next number when it first
        asks.
        """
        if self._settings.worker_pool == "prefork":
            return (process_index() or 0) % self._table.count
        own = self._own()
        if not hasattr(own.thread, "slot"):
            own.thread.slot = next(own.threads) % self._table.count
        return int(own.thread.slot)

    def _make(self, slot: int) -> Drain:
        settings, database, waker = self._settings, self._own().database, self._own().waker
        outbox = Outbox(self._app, database, actor=f"worker:{settings.name}")
        publisher = Publisher(self._app, lambda entries: outbox.empty(ids=entries))
        task_events = TaskEvents(
            self._app, self._table, hostname=settings.celery_name, rate=settings.events_per_second / settings.slots
        )
        recorder = Recorder(
            database,
            self._table,
            slot,
            worker=settings.name,
            publisher=publisher,
            tally=self._sheet.slot(slot),
            task_events=task_events,
        )
        is_main = threading.current_thread() is threading.main_thread()
        runner = Runner(
            self._app,
            self._table,
            slot,
            recorder,
            hostname=settings.name,
            acknowledged=self._acknowledged,
            composure=Composure() if is_main else None,
        )
        hand = Hand(database, waker, self._table, slot, worker=settings.name)
        return Drain(
            database=database,
            waker=waker,
            table=self._table,
            slot=slot,
            runner=runner,
            recorder=recorder,
            claim_size=ClaimSize(budget=settings.claim_budget, limit=settings.claim_limit),
            hand=hand,
            watcher=Watcher(runner, recorder, hand, progress_interval=settings.progress_interval),
            seconds=settings.drain_seconds,
            solitude=Solitude(self._table, slot),
            solitude_of=lambda deaths, is_of_a_node: kind_of(
                worker_deaths=deaths,
                is_of_a_node=is_of_a_node,
                quarantine_after=settings.quarantine_after,
                shares_process=settings.worker_pool == "threads",
            ),
        )
