"""The node's row in the ledger, and whom to wake when it appears or returns tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from uuid import uuid4

import structlog

from ledgerq_shared.broker import Broker
from ledgerq_shared.database import Cursor, Database, execute
from ledgerq_shared.statements.dispatch import QueueSlots, slots_by_queue
from ledgerq_shared.statements.workers import is_known, register_worker
from ledgerq_shared.timeline import Timeline, write_down
from ledgerq_shared.waking import Waker
from ledgerq_worker.node.config import NodeConfig
from ledgerq_worker.node.lease import Former, Lease
from ledgerq_worker.slot.table import lease_clock

log = structlog.get_logger()


class Registration:
    """Registers one node.

    Args:
        lease: begins with it.
    """

    def __init__(self, config: NodeConfig, database: Database, broker: Broker, lease: Lease) -> None:
        self._config = config
        self._database = database
        self._lease = lease
        self._timeline = Timeline()
        #: How many slots serve each queue, as when this was last of use.
        self._slots: list[QueueSlots] = []
        self._waker = Waker(lambda: self._slots, broker)

    def register(self) -> None:
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
            self.read_slots(cursor)
        self._lease.begin(worker_id, asked_at)
        # A ticket per slot when the node appears: what waits is begun at once, not at the next sweep.
        self.wake(dict.fromkeys(config.queues, config.slots))
        log.info("worker.registered", worker=config.name, slots=config.slots, queues=config.queues)

    def look_for(self, former: Former) -> None:
        """Whoever is declared dead is in the ledger for another day; who is not was lost, with whatever else."""
        if self._database.fetch(is_known(former.worker_id), writes=True) == [(False,)]:
            timeline = self._timeline.now(self._database)
            lost_for = time.monotonic() - former.registered_at
            write_down(self._database, timeline=timeline, before=None, lost_for=lost_for, by="worker")
        self._lease.former = None

    def read_slots(self, cursor: Cursor) -> None:
        """Learn whom to wake after the commit. Who asks is the agent's thread, which has the only connection."""
        self._slots = execute(cursor, slots_by_queue())

    def wake(self, ready: Mapping[str, int]) -> None:
        """So many tasks are ready, by queue."""
        self._waker.wake(ready)

    def close(self) -> None:
        """Send what is pending, and disconnect."""
        self._waker.close()
