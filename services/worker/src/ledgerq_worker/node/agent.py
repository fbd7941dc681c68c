"""The lease agent: a process of its own beside a worker node, started by exec, that no task can starve.

It registers the node, renews its lease (in a thread of its own: :mod:`ledgerq_worker.node.lease`) while the worker's
parent process lives and is not stopped, passes on requests to cancel, kills what exceeds its hard limit, and takes back the
tasks of a pool process that died. When the parent's pipe closes without a farewell, the parent is dead: the agent ends its
pool processes and returns their tasks at once. It waits for no lock longer than a moment, and then tries again.

Speaks with the parent over its standard input, one line each: ``lost <pid>``, ``stopping``, and at the end ``stopped``
(the pool has ended) or ``abandoned`` (end it).
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psutil
import psycopg2
import structlog

from ledgerq_shared import outages
from ledgerq_shared.broker import Broker
from ledgerq_shared.database import Cursor, Database, execute
from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown, Unavailable
from ledgerq_shared.logging import configure
from ledgerq_shared.settings import LogSettings, load
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.dispatch import slots_by_queue
from ledgerq_shared.statements.recover import find_claimed, find_claims, recover_claims
from ledgerq_shared.statements.workers import do_writes_wait, end_worker, is_known, register_worker
from ledgerq_shared.timeline import Timeline, write_down
from ledgerq_shared.waking import Waker
from ledgerq_worker.apart import Apart
from ledgerq_worker.heartbeat import Heartbeat
from ledgerq_worker.node.cancel_requests import CancelRequest, running
from ledgerq_worker.node.killed import record_hard_limit, record_termination
from ledgerq_worker.node.killing import ENDED, is_stopped, kill_if, kill_if_alive, kill_remains, resume
from ledgerq_worker.node.lease import Former, Lease, lease_database
from ledgerq_worker.node.lines import Lines, first_line
from ledgerq_worker.node.orphans import HeldClaim, Orphans
from ledgerq_worker.node.stalled_consumer import StalledConsumer, TicketsSeen
from ledgerq_worker.node.standstill import Standstill
from ledgerq_worker.slot.table import SlotRecord, SlotTable, lease_clock

log = structlog.get_logger()

#: How often the agent looks at the parent and at the slots while one of them works, in seconds.
_LOOK_AT_SLOTS_EVERY = 0.2
#: How often it looks for dead pool processes of which it was not told, in seconds.
_LOOK_FOR_DEAD_EVERY = 1.0
#: How often in the time of a lease it ends tasks that somebody asked to end, and looks whether the node hears its tickets.
#: An idle node has no tasks. (One that is idle beside tickets is about to be found deaf.)
_ROUNDS_PER_LEASE = 10
_IDLE_ROUNDS_PER_LEASE = 5
#: It waits for somebody's lock for this long, in seconds, and looks after everything else before it tries again.
_LOCK_PATIENCE = 1.0
#: What it writes waits so long for a synchronous standby, in seconds; then it looks after everything else, and writes again.
_COMMIT_PATIENCE = 2.0
#: And so long for PostgreSQL, in seconds, over whatever is in between: meanwhile it kills nothing.
_ANSWERS_WITHIN = 4
_CONNECTS_WITHIN = 2
#: A parent whose pipe is closed has ended after this long, in seconds.
_ENDS_WITHIN = 1.0
#: After the parent's death the agent tries for this long to tell the ledger, in seconds.
_FAREWELL = 60.0


@dataclass(frozen=True)
class NodeConfig:
    """What the parent tells its agent on starting it."""

    database_url: str
    broker_url: str
    name: str
    host: str
    parent_pid: int
    pool: str
    slots: int
    queues: list[str]
    task_types: list[str]
    lease: float
    quarantine_after: int
    table: str
    #: The same, open: a descriptor that the agent inherits. Null: to be opened by its path.
    table_handle: int | None = None
    heartbeat_file: str | None = None
    #: Whether what a task has started ends with its process.
    kills_programs: bool = True


class _Killed(NamedTuple):
    """A slot whose process was killed, and what is to be written of it."""

    record: SlotRecord
    #: How its task ended; null: it did not.
    end: Statement | None
    why: str


class Agent:
    """The agent of one node.

    Args:
        lease_database: makes the connection over which the lease is renewed.
    """

    def __init__(
        self,
        config: NodeConfig,
        database: Database,
        broker: Broker,
        table: SlotTable,
        lease_database: Callable[[], Database],
    ) -> None:
        self._config = config
        self._database = database
        #: How many slots serve each queue, as when this was last of use; see :meth:`_wake`.
        self._slots: list[tuple[Any, ...]] = []
        self._waker = Waker(lambda: self._slots, broker)
        self._tickets = TicketsSeen(broker, config.queues)
        self._table = table
        self._parent = psutil.Process(config.parent_pid)
        self._lease = Lease(lease_database, config.name, table, config.lease, self._is_parent_at_work)
        self._actor = f"worker:{config.name}"
        self._recovery = partial(recover_claims, quarantine_after=config.quarantine_after, actor=self._actor)
        self._apart = Apart("recover")
        self._timeline = Timeline()
        self._attended_at = 0.0
        self._lost: list[int] = []
        self._looked_at = 0.0
        #: By slot.
        self._killed: dict[int, _Killed] = {}
        self._deafness = StalledConsumer()
        self._standstill = Standstill(stopped_for=config.lease)
        self._orphans = Orphans(table, config.lease)
        path = Path(config.heartbeat_file) if config.heartbeat_file else None
        self._heartbeat = Heartbeat(path, self._is_parent_at_work)

    def run(self, read_lines: Callable[[float], list[str] | None]) -> None:
        """Until the parent says that it has stopped, or dies.

        Args:
            read_lines: the parent's lines that arrived within so many seconds; null when its pipe is closed.
        """
        self._heartbeat.start()
        self._lease.start()
        for record in self._table.read() if self._config.pool == "prefork" else ():
            if self._table.is_shared_with(record.pid):
                resume(record.pid)  # an agent before this one may have died between the question and the kill
        while True:
            lines = read_lines(_LOOK_AT_SLOTS_EVERY)
            if lines == [] and not self._is_time_to_look():
                continue
            # The pipe may stay open in a pool process that outlives the parent, so look at the parent too.
            if lines is None or (not lines and self._is_parent_gone()):
                self._parent_died()
                return
            for line in lines:
                if line in ("stopped", "abandoned"):
                    if line == "abandoned":
                        self._kill_pool()
                    self._end("stopped", charge=False)
                    return
                self._obey(line)
            try:
                self._enforce_limits()
                self._recover_lost()
                self._write_killed()
                self._attend()
                self._return_orphans()
            except Unavailable as error:
                outages.note("agent.ledger_unavailable", error)

    def _try(self, action: Callable[..., None], *arguments: Any, **options: Any) -> bool:
        """Whether it could be done. What waits for a lock or a standby, or is refused, holds up nothing else.

        Raises:
            Unavailable: PostgreSQL is away.
        """
        try:
            action(*arguments, **options)
        except LedgerUnavailable as error:
            if not error.is_busy:
                raise
            reason = error.detail
        except OutcomeUnknown as error:  # doing it again changes nothing
            reason = error.detail
        except psycopg2.Error as error:
            reason = str(error).strip()
        else:
            return True
        log.warning("agent.tries_again", what=action.__name__.strip("_"), error=reason)
        return False

    def _is_time_to_look(self) -> bool:
        """Whether there may be something to do: on an idle node not before the lease is to be renewed."""
        return (
            bool(self._lost or self._killed)
            or self._table.has_busy_slot
            or self._is_round_due()
            or self._is_look_for_dead_due()
        )

    def _is_look_for_dead_due(self) -> bool:
        is_due = time.monotonic() - self._looked_at >= _LOOK_FOR_DEAD_EVERY
        return is_due and self._config.pool == "prefork"

    def _is_round_due(self) -> bool:
        is_idle = not (self._table.has_busy_slot or self._deafness.is_in_doubt)
        rounds = _IDLE_ROUNDS_PER_LEASE if is_idle else _ROUNDS_PER_LEASE
        return self._lease.worker_id is None or time.monotonic() - self._attended_at >= self._config.lease / rounds

    def _obey(self, line: str) -> None:
        if line == "stopping":
            self._lease.hurry()
        elif line.startswith("lost "):
            self._lost.append(int(line.removeprefix("lost ")))

    def _attend(self) -> None:
        """Register the node where the ledger does not know it; pass on what somebody asked to end; listen."""
        if not self._is_round_due() or self._is_parent_stopped():
            return
        if self._lease.worker_id is None:
            self._try(self._register)
            return
        self._attended_at = time.monotonic()
        if self._lease.former is not None:
            self._try(self._look_for_former, self._lease.former)
        self._terminate(self._lease.cancel_requests)
        if self._lease.is_fresh:  # while PostgreSQL is away slots stand still
            self._listen()

    def _listen(self) -> None:
        """Tell the parent when tickets lie in Redis beside an idle slot, and none is taken."""
        is_unheard = self._table.has_idle_slot and not self._table.is_stopping and self._tickets.look()
        if self._deafness.look(time.monotonic(), taken=self._table.tickets, is_unheard=is_unheard):
            self._table.is_deaf = True

    def _return_orphans(self) -> None:
        """Take back what the ledger says that slots hold, and they are done with."""
        self._orphans.look()
        if self._lease.worker_id is not None and self._lease.is_fresh and self._orphans.is_due:
            self._try(self._look_for_orphans, self._lease.worker_id)

    def _look_for_orphans(self, worker_id: UUID) -> None:
        claims = [HeldClaim(*row) for row in self._database.fetch(find_claims(worker_id))]
        orphans = self._orphans.among(claims)
        if not orphans:
            return
        numbers = [claim.no for claim in orphans]

        def recover(tasks: list[str] | None) -> list[tuple[Any, ...]]:
            with self._database.transaction() as cursor:
                still = orphans.intersection(HeldClaim(*row) for row in execute(cursor, find_claims(worker_id)))
                recovery = self._recovery(
                    worker_id=worker_id,
                    numbers=[claim.no for claim in still],
                    tasks=tasks,
                    suspects=[],
                    charge=False,
                    why="its slot was done with it",
                )
                return self._recover(cursor, recovery)

        rows = self._apart.run(
            lambda limit: self._database.fetch(find_claimed(worker_id=worker_id, numbers=numbers, limit=limit)), recover
        )
        self._wake(rows)
        if rows or not self._apart.ids:  # one whose tasks are set apart is met again and again
            log.warning("worker.claims.returned", claims=sorted(numbers), tasks=len(rows))

    def _register(self) -> None:
        """Under a new id: what the old one held is void."""
        worker_id, asked_at = uuid4(), lease_clock()
        config = self._config
        with self._database.transaction() as cursor:
            execute(
                cursor,
                register_worker(
                    worker_id=worker_id,
                    name=config.name,
                    host=config.host,
                    pid=config.parent_pid,
                    pool=config.pool,
                    slots=config.slots,
                    queues=config.queues,
                    task_types=config.task_types,
                    lease=config.lease,
                ),
            )
            self._slots = execute(cursor, slots_by_queue())
        self._lease.begin(worker_id, asked_at)
        self._attended_at = time.monotonic()
        # A ticket per slot when the node appears: what waits is begun at once, not at the next sweep.
        self._waker.wake(dict.fromkeys(config.queues, config.slots))
        log.info("worker.registered", worker=config.name, slots=config.slots, queues=config.queues)

    def _look_for_former(self, former: Former) -> None:
        """Whoever is declared dead is in the ledger for another day; who is not was lost, with whatever else."""
        if self._database.fetch(is_known(former.worker_id), writes=True) == [(False,)]:
            timeline = self._timeline.now(self._database)
            lost_for = time.monotonic() - former.registered_at
            write_down(self._database, timeline=timeline, before=None, lost_for=lost_for, by="worker")
        self._lease.former = None

    def _is_parent_gone(self) -> bool:
        try:
            return not self._parent.is_running() or self._parent.status() in ENDED
        except psutil.NoSuchProcess:
            return True

    def _is_parent_stopped(self) -> bool:
        try:
            return bool(self._parent.status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return True

    def _is_parent_at_work(self) -> bool:
        return not (self._is_parent_gone() or self._is_parent_stopped())

    def _terminate(self, cancel_requests: list[CancelRequest]) -> None:
        """End with its process what somebody asked to end so."""
        for record, wish in running(self._table, cancel_requests):
            if wish.terminate:
                end = record_termination(record, actor=self._actor)
                if self._kill(record, end, why="the task was terminated"):
                    log.warning("worker.task.terminated", task_id=record.task_id, pid=record.pid)

    def _recover_lost(self) -> None:
        """Take back what the slots of dead pool processes held.

        The parent's word is a hint that it is time to look. Looking decides: a word may come late, when the slot has a
        new process; or never, when it was said to an agent that died; and a drain may fail in a process that lives on.
        """
        # With each round, too, so that there is one moment for both.
        is_due = self._lost or self._is_look_for_dead_due() or self._is_round_due()
        if not is_due:
            return
        now = time.monotonic()
        self._end_standstills(now)
        if self._config.pool != "prefork":
            return
        dead = {record.slot for record in self._table.read() if not self._is_ours(record.pid)}
        # Read once more: it may have begun another task between the first reading and its death.
        for record in self._table.read():
            if record.slot in dead and record.slot not in self._killed:
                if self._config.kills_programs:
                    kill_remains(record.pid, parent=self._config.parent_pid)
                self._try(self._take_back, record)
        self._lost.clear()  # whom it could not take back it will see again
        self._looked_at = now

    def _end_standstills(self, now: float) -> None:
        """Replace slots that do nothing they should. While PostgreSQL is away, COMMITs wait for a standby, or the node is
        stopped, none is to blame.
        """
        if not self._lease.is_fresh or self._is_parent_stopped():
            self._standstill.forget()
            return
        is_prefork = self._config.pool == "prefork"
        records = [record for record in self._table.read() if record.is_draining or is_prefork]
        standing = self._standstill.look(
            records, now, is_stopped=lambda pid: is_prefork and is_stopped(pid) and self._is_ours(pid)
        )
        # A lease is renewed without the standby, a result is not recorded without it: only its slot has that.
        if standing and self._database.fetch(do_writes_wait()) == [(True,)]:
            self._standstill.forget()
            return
        for record in standing:
            if is_prefork:
                self._replace(record)
        if standing and not is_prefork:
            self._end_unfit_node(standing)

    def _replace(self, record: SlotRecord) -> None:
        """End a process that does nothing it should. Nobody is charged: it is not known that a task is to blame."""
        is_killed = record.slot not in self._killed and kill_if(
            record.pid, lambda: self._table.is_as_it_was(record), with_programs=self._config.kills_programs
        )
        if is_killed:
            self._killed[record.slot] = _Killed(record, None, "its process did nothing it should for long")
            log.error(
                "worker.slot.stuck",
                slot=record.slot,
                pid=record.pid,
                task_id=record.task_id,
                what="the process does nothing it should: another takes its place, what it held goes back",
            )

    def _end_unfit_node(self, standing: list[SlotRecord]) -> None:
        """Threads share a process: it ends only when none of them is of use any more."""
        is_whole = len(standing) == self._config.slots
        log.error(
            "worker.slot.stuck",
            slots=[record.slot for record in standing],
            what="all slots do nothing they should: the node is killed"
            if is_whole
            else "restart this worker to mend it",
        )
        self._standstill.forget()
        if is_whole:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._parent.kill()

    def _is_ours(self, pid: int) -> bool:
        """Whether a pool process lives. While the parent lives, one with another parent was given a dead one's number."""
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                is_alive = process.status() not in ENDED
                return is_alive and (process.ppid() == self._config.parent_pid or self._is_parent_gone())
        except psutil.NoSuchProcess:
            return False

    def _take_back(
        self,
        record: SlotRecord,
        end: Statement | None = None,
        why: str = "the pool process died",
        *,
        charge: bool = True,
    ) -> None:
        """Return what the slot of a dead process held; then a new process may use it.

        Args:
            end: how the task ended that it ran, if that was our doing.
            charge: whether the task that it ran may be the reason.
        """
        worker_id = self._lease.worker_id
        if worker_id is None:
            self._table.enter(record.slot, 0)
            return

        def recover(tasks: list[str] | None) -> list[tuple[Any, ...]]:
            with self._database.transaction() as cursor:
                if end is not None and (tasks is None or record.task_id in tasks):
                    execute(cursor, end)
                recovery = self._recovery(
                    worker_id=worker_id,
                    slot=record.slot,
                    tasks=tasks,
                    suspects=[record.task_id] if record.task_id else [],
                    charge=charge,
                    why=why,
                )
                return self._recover(cursor, recovery)

        # What alone is refused stays in its claim: the slot goes on, and later it is an orphan.
        rows = self._apart.run(
            lambda limit: self._database.fetch(find_claimed(worker_id=worker_id, slot=record.slot, limit=limit)),
            recover,
        )
        self._table.enter(record.slot, 0)
        self._wake(rows)
        log.warning("worker.slot.lost", slot=record.slot, pid=record.pid, task_id=record.task_id, tasks=len(rows))

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for record in self._table.read():
            if record.task_id and 0 < record.deadline < now:
                limit = record.deadline - record.begun_at
                end = record_hard_limit(record, limit, actor=self._actor)
                if self._kill(record, end, why=f"hard time limit of {limit:g} s"):
                    log.warning("worker.hard_limit", task_id=record.task_id, pid=record.pid, seconds=limit)

    def _kill(self, record: SlotRecord, end: Statement, *, why: str) -> bool:
        """End a task with its process; :meth:`_write_killed` tells the ledger. Returns whether it was killed: it may have
        ended by itself, and an innocent one run there now.

        The ledger comes second, for the process itself may hold the lock that the record needs: it stands still in the
        middle of a flush, or writes one without end.
        """
        if self._config.pool != "prefork" or record.slot in self._killed or not self._is_ours(record.pid):
            return False
        programs = self._config.kills_programs
        is_killed = kill_if(record.pid, lambda: self._table.is_unchanged(record), with_programs=programs)
        if is_killed:
            self._killed[record.slot] = _Killed(record, end, why)
        return is_killed

    def _write_killed(self) -> None:
        for slot, (record, end, why) in list(self._killed.items()):
            if self._try(self._take_back, record, end, why, charge=end is not None):
                del self._killed[slot]

    def _parent_died(self) -> None:
        """The parent is gone without a farewell: its pool processes must not go on, their tasks must run again."""
        log.error("worker.parent_died", worker=self._config.name)
        self._make_sure_of_parents_end()
        self._kill_pool()
        self._end("lost", charge=True)

    def _make_sure_of_parents_end(self) -> None:
        """Its pipe closes a moment before its end; or a task that runs in the same process has closed it. What the node ran
        is about to run again, elsewhere, so the node must not go on.
        """
        deadline = time.monotonic() + _ENDS_WITHIN
        while not self._is_parent_gone():
            if time.monotonic() > deadline:
                log.error("worker.parent_unfit", what="a task closed descriptors of its node: the node is killed")
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._parent.kill()
                    self._parent.wait(_ENDS_WITHIN)
                return
            time.sleep(_LOOK_AT_SLOTS_EVERY / 10)

    def _kill_pool(self) -> None:
        if self._config.pool == "prefork":
            for record in self._table.read():
                if self._table.is_shared_with(record.pid):
                    kill_if_alive(record.pid, with_programs=self._config.kills_programs)

    def _end(self, why: str, *, charge: bool) -> None:
        innocent = {killed.record.slot for killed in self._killed.values() if killed.end is None}
        suspects = [record.task_id for record in self._table.read() if record.task_id and record.slot not in innocent]
        deadline = time.monotonic() + _FAREWELL
        self._lease.end()
        worker_id = self._lease.worker_id
        while worker_id is not None and time.monotonic() < deadline:
            try:
                with self._database.transaction() as cursor:
                    execute(cursor, end_worker(worker_id=worker_id, why=why))
                    for end in (killed.end for killed in self._killed.values() if killed.end is not None):
                        execute(cursor, end)
                    recovery = self._recovery(
                        worker_id=worker_id,
                        suspects=suspects,
                        charge=charge,
                        is_whole_node=charge,
                        why=f"the worker {why}" if why == "stopped" else "the worker process died",
                    )
                    rows = self._recover(cursor, recovery)
                self._wake(rows)
                break
            except (Unavailable, psycopg2.Error):  # away, or somebody's lock is in the way
                time.sleep(1)
        self._table.remove()
        self._waker.close()

    def _recover(self, cursor: Cursor, recovery: Statement) -> list[tuple[Any, ...]]:
        """Return claims of this node to whoever has a slot for them; after the commit :meth:`_wake` is to tell them."""
        rows = execute(cursor, recovery)
        self._slots = execute(cursor, slots_by_queue())
        return rows

    def _wake(self, rows: list[tuple[Any, ...]]) -> None:
        """What was taken back is ready again. Who asks for slots is this thread, which has the only connection."""
        self._waker.wake(Counter(queue for _, queue, state in rows if state in ("PENDING", "RETRY")))


def main() -> None:
    """``python -m ledgerq_worker.node.agent``: the first line on standard input is the configuration."""
    # A Ctrl-C in the terminal, and what a supervisor sends to all, reaches the agent, too; the parent decides when it ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    configure(load(LogSettings), service="agent")
    config = NodeConfig(**json.loads(first_line(sys.stdin.fileno())))
    name = f"ledgerq-agent {config.name}"
    Agent(
        config,
        Database(
            config.database_url,
            application_name=name,
            size=1,
            keeps_statements=True,
            checks_socket=True,
            lock_timeout=_LOCK_PATIENCE,
            commit_patience=_COMMIT_PATIENCE,
            connect_timeout=_CONNECTS_WITHIN,
            answers_within=_ANSWERS_WITHIN,
            waits_for_work=False,
        ),
        Broker(config.broker_url, client_name="ledgerq-agent"),
        SlotTable(Path(config.table), config.slots, config.table_handle),
        lambda: lease_database(config.database_url, config.name, config.lease),
    ).run(Lines(sys.stdin.fileno()))


if __name__ == "__main__":
    main()
