"""The node's row in the ledger, and the workers to wake when the node appears or returns tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from uuid import uuid4

import structlog

from ledgerq_shared.broker import Broker
from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.postgres.timeline import Timeline, write_down
from ledgerq_shared.statements.dispatch import QueueSlots, slots_by_queue
from ledgerq_shared.statements.workers import is_known, register_worker
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.node.config import NodeConfig
from ledgerq_worker.node.lease import Former, Lease
from ledgerq_worker.slot.table import lease_clock

log = structlog.get_logger()


class Registration:
    """Registers one node.

    Args:
        lease: the lease, which begins with the registration.
    """

    def __init__(self, config: NodeConfig, database: Database, broker: Broker, lease: Lease) -> None:
        self._config = config
        self._database = database
        self._lease = lease
        self._timeline = Timeline()
        #: How many slots serve each queue, as last read.
        self._slots: list[QueueSlots] = []
        self._waker = Waker(lambda: self._slots, broker)

    def register(self) -> None:
        """Register the node under a new id: the claims under the old id are void."""
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
                    acknowledged=config.acknowledged,
                ),
            )
            self.read_slots(cursor)
        self._lease.begin(worker_id, asked_at)
        # A ticket for each slot when the node appears, so that waiting tasks begin at once and not at the next sweep.
        self.wake(dict.fromkeys(config.queues, config.slots))
        log.info("worker.registered", worker=config.name, slots=config.slots, queues=config.queues)

    def look_for(self, former: Former) -> None:
        """Check that the ledger still has the former id: a node that was declared dead stays there for another day, so
        if it is missing, the ledger has lost it, perhaps with other things.
        """
        if self._database.fetch(is_known(former.worker_id), writes=True) == [(False,)]:
            timeline = self._timeline.now(self._database)
            lost_for = time.monotonic() - former.registered_at
            write_down(self._database, timeline=timeline, before=None, lost_for=lost_for, by="worker")
        self._lease.former = None

    def read_slots(self, cursor: Cursor) -> None:
        """Read which slots to wake after the commit. The agent's thread asks, because it has the only connection."""
        self._slots = execute(cursor, slots_by_queue())

    def wake(self, ready: Mapping[str, int]) -> None:
        """Wake workers for ready tasks: their number, by queue."""
        self._waker.wake(ready)

    def close(self) -> None:
        """Send pending tickets, and disconnect."""
        self._waker.close()
