"""Pauses queues: no task of a paused queue begins until the queue is resumed."""

from __future__ import annotations

import structlog

from ledgerq_api.changing import change
from ledgerq_api.ledger import Ledger
from ledgerq_api.queues import schemas
from ledgerq_api.queues.naming import QueueNames
from ledgerq_shared.errors import QueueNotFound
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.queues import count_ready, set_paused
from ledgerq_shared.tasks.waking import Waker

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
        return await self._set(queue, paused=True, actor=actor, make=make)

    async def resume(self, queue: str, *, actor: str, make: bool = False) -> schemas.QueueState:
        """Begin tasks of the queue again, at once.

        Raises:
            QueueNotFound: it was never used; with ``make`` it is made.
            TooManyQueues: it would be one too many for this actor.
        """
        return await self._set(queue, paused=False, actor=actor, make=make)

    async def _set(self, queue: str, *, paused: bool, actor: str, make: bool) -> schemas.QueueState:
        if make:
            await self._queues.admit(queue, actor=actor)

        def work(cursor: Cursor, _: bool) -> int:
            """How many tasks may begin now."""
            found = execute(cursor, set_paused(queue, paused=paused, make=make))
            if not found:
                raise QueueNotFound(
                    say("No queue {queue!r} has ever been used; PUT /queues/{{name}} makes it.", queue=queue[:128])
                )
            if found != [(paused,)]:
                log.info("api.queue.paused" if paused else "api.queue.resumed", queue=queue, actor=actor)
            if paused:
                return 0
            [(ready,)] = execute(cursor, count_ready(queue, up_to=_MOST_READY))
            return ready

        if ready := await change(self._ledger, work):
            self._waker.wake({queue: ready})
        return schemas.QueueState(name=queue, paused=paused)
