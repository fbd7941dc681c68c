"""Pauses queues: no task of a paused queue begins until the queue is resumed."""

from __future__ import annotations

import structlog

from ledgerq_api.changing import change
from ledgerq_api.ledger import Ledger
from ledgerq_api.queues import schemas
from ledgerq_api.queues.naming import QueueNames
from ledgerq_shared.database import Cursor, execute
from ledgerq_shared.errors import QueueNotFound
from ledgerq_shared.statements.queues import count_ready, set_paused
from ledgerq_shared.waking import Waker

log = structlog.get_logger()

#: The ready tasks of a resumed queue are counted up to this number, which is more than any number of slots needs.
_MOST_READY = 1000


class QueuePauses:
    """Pauses and resumes queues. ``actor`` is the caller, for the log."""

    def __init__(self, ledger: Ledger, waker: Waker, names: QueueNames) -> None:
        self._ledger = ledger
        self._waker = waker
        self._queues = names

    async def pause(self, queue: str, *, actor: str, make: bool = False) -> schemas.QueueState:
        """Begin no more tasks of the queue. Running tasks go on.

        Raises:
            QueueNotFound: it was never used; with ``make`` it is made.
            TooManyQueues: it would be one too many for this actor.
        """
        if make:
            await self._queues.admit(queue, actor=actor)
        await change(self._ledger, lambda cursor, _: _set(cursor, queue, paused=True, make=make, actor=actor))
        return schemas.QueueState(name=queue, paused=True)

    async def resume(self, queue: str, *, actor: str, make: bool = False) -> schemas.QueueState:
        """Begin tasks of the queue again, at once.

        Raises:
            QueueNotFound: it was never used; with ``make`` it is made.
            TooManyQueues: it would be one too many for this actor.
        """
        if make:
            await self._queues.admit(queue, actor=actor)

        def work(cursor: Cursor, _: bool) -> int:
            _set(cursor, queue, paused=False, make=make, actor=actor)
            return int(execute(cursor, count_ready(queue, up_to=_MOST_READY))[0][0])

        ready = await change(self._ledger, work)
        if ready:
            self._waker.wake({queue: ready})
        return schemas.QueueState(name=queue, paused=False)


def _set(cursor: Cursor, queue: str, *, paused: bool, make: bool, actor: str) -> None:
    rows = execute(cursor, set_paused(queue, paused=paused, make=make))
    if not rows:
        raise QueueNotFound(f"No queue {queue[:128]!r} has ever been used; PUT /queues/{{name}} makes it.")
    if rows[0][0] != paused:
        log.info("api.queue.paused" if paused else "api.queue.resumed", queue=queue, actor=actor)
