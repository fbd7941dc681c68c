"""A drain: what a slot does with a ticket. It claims, runs and records tasks, and claims again, until the queue is
empty or some time has passed. Then the ticket is passed on, so that no queue keeps a slot from the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import structlog

from ledgerq_shared.errors import Unavailable
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.repeating import until_done
from ledgerq_shared.statements.claim import ClaimedTask, claim_tasks, has_ready
from ledgerq_shared.statements.recover import read_suspicion
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.drain.claim_size import ClaimSize
from ledgerq_worker.drain.hand import Hand
from ledgerq_worker.drain.low_water import LowWater
from ledgerq_worker.drain.recorder import Recorder
from ledgerq_worker.drain.runner import Runner
from ledgerq_worker.drain.solitude import Kind, Solitude
from ledgerq_worker.drain.watcher import Watcher
from ledgerq_worker.slot.pipes import pool_pipes
from ledgerq_worker.slot.table import STORE_WITHIN, SlotTable

log = structlog.get_logger()

#: Seconds until a drain looks again if it found entries that another claim has locked.
_LOCKED_PAUSE = 0.002
_LOCKED_LOOKS = 50
#: Seconds between two checks whether the node has its lease again.
_LEASE_LOOK_EVERY = 0.02


class Drain:
    """The drain of one slot.

    Args:
        hand: the tasks that the slot has claimed and not begun.
        watcher: the slot's watcher.
        seconds: how long it may go on before the ticket is passed on.
        solitude: keeps suspects apart.
        solitude_of: returns what a suspect needs, given its deaths and whether a whole node was lost with it.
    """

    def __init__(
        self,
        *,
        database: Database,
        waker: Waker,
        table: SlotTable,
        slot: int,
        runner: Runner,
        recorder: Recorder,
        claim_size: ClaimSize,
        hand: Hand,
        watcher: Watcher,
        seconds: float,
        solitude: Solitude,
        solitude_of: Callable[[int, bool], Kind],
    ) -> None:
        self._database = database
        self._waker = waker
        self._table = table
        self._slot = slot
        self._runner = runner
        self._recorder = recorder
        self._claim_size = claim_size
        self._seconds = seconds
        self._solitude = solitude
        self._solitude_of = solitude_of
        self._low_water = LowWater()
        #: Task types that this process has met and does not know: it leaves them to others from then on.
        self._unknown_types: set[str] = set()
        self._hand = hand
        self._watcher = watcher

    @property
    def is_running(self) -> bool:
        """Whether a task's code runs."""
        return self._runner.running is not None

    def run(self, queue: str) -> None:
        """Work on ``queue`` until it is empty, the time is over, or the node is stopping."""
        self._table.enter(self._slot, os.getpid())
        deadline = time.monotonic() + self._seconds
        with self._watcher:
            self._work(queue, deadline)
        self._table.rest(self._slot)

    def _work(self, queue: str, deadline: float) -> None:
        looks = 0
        self._claim(queue)
        while True:
            if self._hand:
                self._run_claimed(queue)
            elif looks >= _LOCKED_LOOKS or not self._is_worth_a_look(queue):
                return
            else:
                looks += 1
                time.sleep(_LOCKED_PAUSE)
            if self._table.is_stopping:
                self._recorder.flush()
                return
            if time.monotonic() > deadline or pool_pipes.are_lost:
                self._recorder.flush()
                self._waker.wake({queue: 1})
                return
            self._claim(queue)

    def _claim(self, queue: str) -> None:
        """Record what is pending and claim the next tasks, in one transaction."""
        if self._solitude.is_closed() or not self._table.is_held:
            self._recorder.flush()
            self._wait_for_the_lease()
            self._solitude.wait_until_open()
        if self._table.is_stopping:
            self._recorder.flush()
            return
        worker_id = self._table.worker_id
        claimed = self._recorder.flush(
            claim_tasks(
                worker_id=worker_id,
                slot=self._slot,
                queue=queue,
                limit=self._claim_size.limit_for(queue),
                budget=self._claim_size.budget,
                cost_of_type=self._claim_size.cost_of_type,
                unknown_cost=self._claim_size.budget,
                low_water=self._low_water.marks(queue),
                unknown_types=self._unknown_types,
            )
        )
        self._low_water.claimed(queue, claimed)
        self._hand.add(claimed, under=worker_id)

    def _wait_for_the_lease(self) -> None:
        """Wait while the node is, or may be, dead in the ledger: it begins nothing. It also takes no more tickets,
        because these are meant for live nodes.
        """
        while not (self._table.is_held or self._table.is_stopping):
            self._table.sign(self._slot)
            time.sleep(_LEASE_LOOK_EVERY)

    def _run_claimed(self, queue: str) -> None:
        began, count = time.monotonic(), 0
        strangers: list[ClaimedTask] = []
        while True:
            try:
                task = self._hand.take()
            except IndexError:
                break
            if not self._runner.knows(task.task_type):
                strangers.append(task)
                continue
            if not self._table.holds(self._hand.claimed_under):
                log.warning("worker.lease.lost", what="what it has claimed and not begun is left to others")
                self._hand.give_back([task])
                self._hand.hand_back()
            elif task.is_alone:
                self._run_suspect(task)
            elif self._solitude.is_closed():
                self._hand.give_back([task])
                self._hand.hand_back()
            else:
                count += 1
                self._run(task)
            if self._table.is_stopping:
                self._hand.hand_back()
        if strangers:
            self._unknown_types.update(task.task_type for task in strangers)
            log.warning("worker.task.unknown_type", task_types=sorted({task.task_type for task in strangers}))
            self._hand.give_back(strangers, reason="no_worker")
        if count:
            self._claim_size.claim_ran(queue, count, time.monotonic() - began)

    def _run(self, task: ClaimedTask) -> None:
        if task.celery is not None and not self._claim_size.has_met(task.task_type) and self._recorder.has_pending:
            self._recorder.flush()  # nobody knows what it does to its process: those that have ended have ended
        leg = self._runner.run(task)
        if leg.end is None:  # its claim was superseded before it began
            if not leg.is_refused:
                self._hand.give_back([task])
            return
        if leg.begun_at:
            self._claim_size.measured(task.task_type, leg.ended_at - leg.begun_at)
        self._recorder.ended(leg)
        if leg.runs_once:
            self._recorder.flush()  # so that a death from now on is not charged to this task

    def _run_suspect(self, task: ClaimedTask) -> None:
        """Run a task that may have killed a worker: nothing that has ended waits for it, and no other task dies with
        it.
        """
        self._recorder.flush()
        kind = self._kind_of(task)
        is_barred = kind is Kind.NONE and self._solitude.is_closed()
        if is_barred or not self._solitude.enter(
            kind, is_over=lambda: self._table.is_listed_cancelled(task.claim_no, task.id)
        ):
            self._hand.give_back([task])
            return
        self._run(task)
        self._recorder.flush()
        self._solitude.leave()

    def _kind_of(self, task: ClaimedTask) -> Kind:
        def once(_: bool) -> Kind:
            self._table.sign(self._slot, STORE_WITHIN)
            with self._database.transaction() as cursor:
                rows = execute(cursor, read_suspicion(task.id))
            return self._solitude_of(*rows[0]) if rows else Kind.NONE

        return until_done(once, what="worker.suspect")

    def _is_worth_a_look(self, queue: str) -> bool:
        """Whether the queue has ready tasks although none could be claimed, because others may have locked them."""
        if self._low_water.forget(queue):
            return True
        self._table.sign(self._slot, STORE_WITHIN)
        try:
            with self._database.transaction() as cursor:
                [(is_there,)] = execute(cursor, has_ready(queue, unknown_types=self._unknown_types))
                return is_there
        except Unavailable:
            return False
