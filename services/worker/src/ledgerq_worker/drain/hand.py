"""The tasks that a slot holds and has not begun. Two threads take from them: the slot's own, which begins tasks, and
its watcher, which hands them back while one task takes long.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Sequence
from uuid import UUID

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.repeating import until_done
from ledgerq_shared.statements.cancel import revoke_waiting
from ledgerq_shared.statements.claim import ClaimedTask, hand_back
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.slot.table import STORE_WITHIN, SlotTable


class Hand:
    """Claimed tasks of one slot, in their order.

    Args:
        worker: the node's name, for the event log.
    """

    def __init__(self, database: Database, waker: Waker, table: SlotTable, slot: int, *, worker: str) -> None:
        self._database = database
        self._waker = waker
        self._table = table
        self._slot = slot
        self._actor = f"worker:{worker}"
        self._tasks: deque[ClaimedTask] = deque()
        #: The node's id under which the tasks were claimed, as bytes.
        self.claimed_under = b""
        #: Takes the next task to begin. This is atomic, so that a task is either begun or handed back. It raises
        #: IndexError if there is none.
        self.take = self._tasks.popleft

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def add(self, claimed: Sequence[ClaimedTask], *, under: UUID) -> None:
        """Add tasks that were claimed under that id of the node."""
        self.claimed_under = under.bytes
        self._tasks.extend(claimed)

    def hand_back(self) -> None:
        """Hand back all tasks, because the running task takes long or the node is stopping."""
        tasks: list[ClaimedTask] = []
        with contextlib.suppress(IndexError):
            while True:
                tasks.append(self._tasks.pop())
        if tasks:
            self.give_back(tasks)

    def give_back(self, tasks: Sequence[ClaimedTask], *, reason: str | None = None) -> None:
        """Hand back tasks that were taken and not begun, uncharged. It repeats until that is done.

        Args:
            reason: why they are held from now on; None: they are ready again.
        """

        def once(_: bool) -> None:  # doing it twice changes nothing
            self._table.sign(self._slot, STORE_WITHIN)
            with self._database.transaction() as cursor:
                rows = execute(cursor, hand_back({task.id: task.claim_no for task in tasks}, reason=reason))
                if cancelled := [task_id for task_id, _, is_cancelled in rows if is_cancelled]:
                    execute(cursor, revoke_waiting(cancelled, actor=self._actor))

        until_done(once, what="worker.hand_back", tasks=len(tasks))
        self._waker.wake(Counter(task.queue for task in tasks))
