"""The lease agent: a process of its own beside a worker node, started by exec, that no task can starve.

It registers the node. It renews the node's lease while the worker's parent process lives and is not stopped (in a
thread of its own: :mod:`ledgerq_worker.node.lease`). It passes on requests to cancel, kills processes whose task
exceeds its hard limit, and takes back the tasks of a pool process that died. When the parent's pipe closes without a
farewell, the parent is dead: the agent ends its pool processes and returns their tasks at once. The agent does not wait
long for any lock; it tries again later.

The parent writes lines to its standard input: ``lost <pid>``, ``stopping``, and at the end ``stopped`` (the pool has
ended) or ``abandoned`` (end the pool).
"""

from __future__ import annotations

import ledgerq_shared.process.lean_imports  # noqa: F401 - comes first  # isort: skip

import json
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from ledgerq_shared import outages
from ledgerq_shared.broker import Broker
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.postgres.repeating import tried
from ledgerq_shared.process.logging import configure
from ledgerq_worker.heartbeat import Heartbeat
from ledgerq_worker.node.config import NodeConfig
from ledgerq_worker.node.deafness import Deafness, TicketsSeen
from ledgerq_worker.node.enforcement import Enforcement
from ledgerq_worker.node.lease import Lease, lease_database
from ledgerq_worker.node.lines import Lines, first_line
from ledgerq_worker.node.orphans import Orphans
from ledgerq_worker.node.parent import Parent
from ledgerq_worker.node.registration import Registration
from ledgerq_worker.node.returning import Returning
from ledgerq_worker.node.slot_replacement import StuckSlots
from ledgerq_worker.recovering import Recovering
from ledgerq_worker.slot.table import SlotTable

log = structlog.get_logger()

#: Seconds between two looks at the parent and at the slots while a slot works.
_LOOK_AT_SLOTS_EVERY = 0.2
#: Seconds between two looks for dead pool processes of which the parent has not told.
_LOOK_FOR_DEAD_EVERY = 1.0
#: How many rounds the agent makes in the time of a lease. In a round it ends tasks that somebody asked to end, and
#: checks whether the node takes its tickets. An idle node needs no rounds, because it has no tasks. (If an idle node
#: does not take tickets that lie in Redis, the rounds go on, because the node may be deaf.)
_ROUNDS_PER_LEASE = 10
_IDLE_ROUNDS_PER_LEASE = 5
#: Seconds that it waits for a lock; then it looks after everything else before it tries again.
_LOCK_PATIENCE = 1.0
#: Seconds that its COMMIT waits for a synchronous standby; then it looks after everything else, and writes again.
_COMMIT_PATIENCE = 2.0
#: Seconds that it waits for an answer of PostgreSQL, whatever is in between; during such a wait it kills nothing.
_ANSWERS_WITHIN = 4
_CONNECTS_WITHIN = 2


class Agent:
    """The agent of one node.

    Args:
        lease_database: opens the connection over which the lease is renewed.
        tickets: says whether tickets lie in Redis; None: ``broker`` is asked.
        clock: seconds, monotonic. (The lease, which has a thread of its own, uses the system's clock.)
    """

    def __init__(
        self,
        config: NodeConfig,
        database: Database,
        broker: Broker,
        table: SlotTable,
        lease_database: Callable[[], Database],
        *,
        tickets: TicketsSeen | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._table = table
        self._clock = clock
        self._tickets = tickets or TicketsSeen(broker, config.queues)
        self._is_prefork = config.pool == "prefork"
        self._parent = Parent(config.parent_pid)
        self.lease = Lease(lease_database, config.name, table, config.lease, self._parent.is_at_work)
        self._registration = Registration(config, database, broker, self.lease)
        actor = f"worker:{config.name}"
        self.enforcement = Enforcement(
            table,
            self._parent,
            is_prefork=self._is_prefork,
            kills_programs=config.kills_programs,
            actor=actor,
        )
        self.stuck = StuckSlots(
            database,
            table,
            self._parent,
            self.lease,
            self.enforcement,
            is_prefork=self._is_prefork,
            stopped_for=config.lease,
        )
        recovering = Recovering(
            database,
            self._registration.wake,
            quarantine_after=config.quarantine_after,
            actor=actor,
            behind=self._registration.read_slots,
        )
        orphans = Orphans(table, config.lease, clock=clock)
        self.returning = Returning(database, table, self._parent, self.lease, self.enforcement, recovering, orphans)
        self._attended_at = self._looked_at = 0.0
        #: Whether the parent has reported a dead pool process: this is a hint that it is time to look.
        self._has_lost = False
        self._deafness = Deafness()
        path = Path(config.heartbeat_file) if config.heartbeat_file else None
        self._heartbeat = Heartbeat(path, self._parent.is_at_work)

    def run(self, read_lines: Callable[[float], list[str] | None]) -> None:
        """Run until the parent says that it has stopped, or dies.

        Args:
            read_lines: returns the parent's lines that arrive within this many seconds; None if its pipe is closed.
        """
        self._heartbeat.start()
        self.lease.start()
        self.enforcement.resume_all()
        while True:
            lines = read_lines(_LOOK_AT_SLOTS_EVERY)
            self._table.agent_outages = outages.numbers()
            if lines == [] and not self._is_time_to_look():
                continue
            # The pipe may stay open in a pool process that outlives the parent, so look at the parent, too.
            if lines is None or (not lines and self._parent.is_gone()):
                self._parent_died()
                return
            for line in lines:
                if line in ("stopped", "abandoned"):
                    if line == "abandoned":
                        self.enforcement.kill_all()
                    self._end("stopped", charge=False)
                    return
                self._obey(line)
            try:
                self._look()
            except Unavailable as error:
                outages.note("agent.ledger_unavailable", error)

    def _look(self) -> None:
        self.enforcement.keep_limits(self._clock())
        self._look_at_processes()
        self.returning.return_killed()
        self._attend()
        self.returning.return_orphans()

    def _is_time_to_look(self) -> bool:
        """Whether there may be something to do: on an idle node there is nothing to do before the lease has to be
        renewed.
        """
        return (
            self._has_lost
            or bool(self.enforcement.killed)
            or self._table.has_busy_slot
            or self._is_round_due()
            or self._is_look_for_dead_due()
        )

    def _is_look_for_dead_due(self) -> bool:
        is_due = self._clock() - self._looked_at >= _LOOK_FOR_DEAD_EVERY
        return is_due and self._is_prefork

    def _is_round_due(self) -> bool:
        is_idle = not (self._table.has_busy_slot or self._deafness.is_in_doubt)
        rounds = _IDLE_ROUNDS_PER_LEASE if is_idle else _ROUNDS_PER_LEASE
        return self.lease.worker_id is None or self._clock() - self._attended_at >= self._config.lease / rounds

    def _obey(self, line: str) -> None:
        if line == "stopping":
            self.lease.hurry()
        elif line.startswith("lost "):
            self._has_lost = True

    def _look_at_processes(self) -> None:
        """Find processes that stand still and processes that died. This is also done in each round, so that both happen
        at the same moment.
        """
        is_due = self._has_lost or self._is_look_for_dead_due() or self._is_round_due()
        if not is_due:
            return
        now = self._clock()
        self.stuck.replace(now)
        if self._is_prefork:
            self.returning.return_dead()
        self._has_lost = False
        self._looked_at = now

    def _attend(self) -> None:
        """Register the node if the ledger does not know it; pass on requests to end tasks; check that the node takes
        its tickets.
        """
        if not self._is_round_due() or self._parent.is_stopped():
            return
        if self.lease.worker_id is None:
            if tried(self._registration.register, what="agent.register"):
                self._attended_at = self._clock()
            return
        self._attended_at = self._clock()
        if self.lease.former is not None:
            tried(partial(self._registration.look_for, self.lease.former), what="agent.former")
        self.enforcement.terminate(self.lease.cancel_requests, self._clock())
        if self.lease.is_fresh:  # while PostgreSQL is away, slots stand still anyway
            self._listen()

    def _listen(self) -> None:
        """Tell the parent if tickets lie in Redis beside an idle slot and none is taken."""
        is_unheard = self._table.has_idle_slot and not self._table.is_stopping and self._tickets.look()
        if self._deafness.look(self._clock(), taken=self._table.tickets, is_unheard=is_unheard):
            self._table.is_deaf = True

    def _parent_died(self) -> None:
        """Handle the death of the parent: its pool processes must not go on, and their tasks must run again."""
        log.error("worker.lost", worker=self._config.name, why="its process died")
        self._parent.make_sure_of_its_end()
        self.enforcement.kill_all()
        self._end("lost", charge=True)

    def _end(self, why: str, *, charge: bool) -> None:
        self.lease.end()
        self.returning.return_all(why, charge=charge)
        self._table.remove()
        self._registration.close()


def main() -> None:
    """``python -m ledgerq_worker.node.agent``: the first line on standard input is the configuration."""
    # A Ctrl-C in the terminal, and a signal that a supervisor sends to all processes, reach the agent, too; the parent
    # decides when it ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    config = NodeConfig(**json.loads(first_line(sys.stdin.fileno())))
    configure(config, service="agent", prints=dict)
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
