"""The node's lease, renewed by a thread that does nothing else, over a connection of its own.

Other waits of the agent (for a lock that a task's flush holds, for Redis, for a process that is slow to die) cost no
lease. The statement touches only the worker's own row, does not wait if somebody has locked that row, and is a
transaction by itself. So a connection that falls silent leaves no lock behind, and another one is tried while there is
time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

import psycopg2
import structlog

from ledgerq_shared import outages
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.statements.workers import renew_lease
from ledgerq_worker.node.cancel_requests import CancelRequests
from ledgerq_worker.slot.table import SlotTable, lease_clock

log = structlog.get_logger()

#: How many times the lease is renewed before it would run out.
_RENEWALS = 10
_IDLE_RENEWALS = 5
#: Seconds until a failed renewal is tried again.
_AGAIN_AFTER = 0.2
#: A renewal that takes longer than this share of the lease is given up, and tried over another connection.
_STUCK_AFTER = 0.3
#: While this many renewals wait in vain, no more are begun: then the connection is not the reason.
_MOST_SILENT = 3
#: The row of a node that has ended stays for a day; if its lease ended less than this many seconds ago, the row has to
#: be there.
_KNOWN_FOR = 80_000.0


class Former(NamedTuple):
    """An id under which the node was registered and is no longer registered."""

    worker_id: UUID
    #: By the monotonic clock; if another agent registered the node, the time when this agent began.
    registered_at: float


def lease_database(url: str, name: str, lease: float) -> Database:
    """The connection over which a lease of ``lease`` seconds is renewed."""
    return Database(
        url,
        application_name=f"ledgerq-lease {name}",
        size=1,
        connect_timeout=max(2, round(lease / 4)),  # libpq accepts no less
        keeps_statements=True,
        checks_socket=True,
        unanswered_after=lease / 4,
        lock_timeout=lease / 10,
    )


class Lease:
    """Renews the lease of one node.

    Args:
        connect: opens the database in which the lease is renewed; called again if a connection no longer answers.
        name: the node's name, for the log.
        table: the slot table: it says under which id the node is registered, whether it is stopping, and whether it is
            idle.
        seconds: how long a renewed lease lasts.
        is_due_to_live: returns whether the node may have its lease now. A stopped process may not have it, because its
            tasks stand still.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        connect: Callable[[], Database],
        name: str,
        table: SlotTable,
        seconds: float,
        is_due_to_live: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._name = name
        self._table = table
        self._seconds = seconds
        self._is_due_to_live = is_due_to_live
        self._clock = clock
        #: Looked at with each renewal, by which the API knows that the node has heard of a request.
        self.cancel_requests = CancelRequests(table)
        self._renewed_at = 0.0
        self._asked_at: float | None = None
        self._hurry = threading.Event()
        self._is_ended = threading.Event()
        #: The number of the thread that renews; threads with lower numbers have been given up.
        self._number = 0
        self._thread: threading.Thread | None = None
        self._silent: list[threading.Thread] = []
        #: The node's id in the ledger; None: the node has to be registered, because it never was or because it was
        #: declared dead. An agent that replaces a dead agent goes on under the same id, because the node's tasks run
        #: under it.
        self.worker_id: UUID | None = table.worker_id if table.worker_id.int else None
        self._registered_at = self._clock()
        #: The former id, until it is checked whether the ledger has forgotten it, which would show that the ledger went
        #: back in time. (A missing renewal shows nothing, because any failover may lose one.)
        self.former: Former | None = None

    def start(self) -> None:
        """Start to renew, until :meth:`end` is called."""
        self._renew_in_a_thread()
        threading.Thread(target=self._watch, name="lease-watch", daemon=True).start()

    def _renew_in_a_thread(self) -> None:
        self._number += 1
        self._thread = threading.Thread(target=self._keep, args=[self._number], name="lease", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop renewing."""
        self._is_ended.set()
        self._number += 1
        self.hurry()
        if self._thread is not None:
            self._thread.join(_AGAIN_AFTER)

    def begin(self, worker_id: UUID, asked_at: float) -> None:
        """Note that the node was just registered under this id; ``asked_at`` is the time of the request, by the clock
        of leases.
        """
        self._table.worker_id = worker_id  # before the time: see `SlotTable.holds`
        self._table.held_until = asked_at + self._seconds
        self._renewed_at = self._registered_at = self._clock()
        self.worker_id = worker_id

    def hurry(self) -> None:
        """Tell the ledger at once, because the table says something new."""
        self._hurry.set()

    @property
    def is_fresh(self) -> bool:
        """Whether the ledger has answered lately."""
        return self._clock() - self._renewed_at < self._seconds / 2

    def _watch(self) -> None:
        while not self._is_ended.wait(self._seconds * _STUCK_AFTER / 3):
            self._look_after()

    def _look_after(self) -> None:
        """Give the work to another thread, with another connection, if the present thread's connection does not
        answer.
        """
        asked_at = self._asked_at
        if asked_at is None or self._clock() - asked_at < self._seconds * _STUCK_AFTER:
            return
        self._silent = [thread for thread in self._silent if thread.is_alive()]
        if self._thread is not None and len(self._silent) < _MOST_SILENT:
            log.warning("agent.lease_stuck", what="PostgreSQL does not answer: connecting anew")
            self._silent.append(self._thread)
            self._asked_at = None
            self._renew_in_a_thread()

    def _keep(self, number: int) -> None:
        database = self._connect()
        while self._number == number:
            if self._hurry.is_set():
                self._hurry.clear()
                self._renewed_at = 0.0
            try:
                self.renew_if_due(database, number)
            except Unavailable as error:
                outages.note("agent.ledger_unavailable", error)
            except psycopg2.Error as error:
                log.warning("agent.lease_not_renewed", error=str(error).strip())
            except Exception:
                log.exception("agent.lease_not_renewed")
            self._hurry.wait(max(self._due_at - self._clock(), _AGAIN_AFTER))
        database.close()

    @property
    def _due_at(self) -> float:
        renewals = _RENEWALS if self._table.has_busy_slot else _IDLE_RENEWALS
        return self._renewed_at + self._seconds / renewals

    def renew_if_due(self, database: Database, number: int = 0) -> None:
        """Renew the lease if it is time.

        Raises:
            Unavailable: PostgreSQL is away.
            psycopg2.Error: the lease could not be renewed.
        """
        now, worker_id = self._clock(), self.worker_id
        if worker_id is None or now < self._due_at or not self._is_due_to_live():
            return
        self._asked_at, leased_at = now, lease_clock()
        try:
            [(is_renewed, is_registered)] = database.fetch(
                renew_lease(worker_id=worker_id, lease=self._seconds, stopping=self._table.is_stopping),
                writes=True,
                lasts=False,  # a standby that is away must cost no lease
            )
            if is_renewed:
                self._renewed_at = max(self._renewed_at, now)
                self._table.held_until = max(self._table.held_until, leased_at + self._seconds)
                # After the renewal, so that a wait costs no lease.
                self.cancel_requests.look(database, worker_id)
        finally:
            if self._number == number:
                self._asked_at = None
        if not is_registered and self.worker_id == worker_id:
            log.warning("agent.declared_dead", worker=self._name)
            if lease_clock() - self._table.held_until < _KNOWN_FOR:
                self.former = Former(worker_id, self._registered_at)
            self.worker_id = None
            self._table.held_until = 0.0
