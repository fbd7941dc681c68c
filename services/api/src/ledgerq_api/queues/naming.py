"""New queues: a name is enough to create one, and each costs something for good, so the number that a key may name is
bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledgerq_api.answers.errors import TooManyQueues
from ledgerq_api.auth.callers import ANYBODY
from ledgerq_api.ledger import Ledger
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.queues import name_queues
from ledgerq_shared.statements.submit import NewTask

#: How many names of existing queues are remembered; when there are more, all are looked up anew.
_MOST_KNOWN = 20_000


class QueueNames:
    """Allows the names of queues that exist, and a bounded number of new ones.

    Args:
        most: how many new queues each key may name, by all calls together; 0: any number.
    """

    def __init__(self, ledger: Ledger, *, most: int) -> None:
        self._ledger = ledger
        self._most = most or None
        #: Queues that exist: a submit to one of them needs nothing else from this class.
        self.known: set[str] = set()

    async def admit_tasks(self, tasks: Sequence[NewTask]) -> None:
        """Allow these tasks, all of one actor, to go to their queues.

        Raises:
            TooManyQueues: it names the first task whose queue may be new.
        """
        unknown = {task.queue for task in tasks}.difference(self.known)
        if unknown and (refused := await self._name(sorted(unknown), tasks[0].actor)):
            index = next(index for index, task in enumerate(tasks) if task.queue in refused.names)
            raise refused.error(pointer="#/queue" if len(tasks) == 1 else f"#/tasks/{index}/queue")

    async def admit(self, name: str, *, actor: str) -> None:
        """Allow the queue that a path names to exist.

        Raises:
            TooManyQueues
        """
        if refused := await self._name([name], actor):
            raise refused.error(parameter="name")

    async def _name(self, names: Sequence[str], actor: str) -> _Refused | None:
        def work(cursor: Cursor) -> tuple[list[str], int]:
            [(new, named)] = execute(cursor, name_queues(names, made_by=actor, most=self._most))
            return new, named

        new, named = await self._ledger.run(work, writes=True)
        if self._most is not None and new and named + len(new) > self._most:
            return _Refused(frozenset(new), named, self._most, actor)
        if len(self.known) + len(names) > _MOST_KNOWN:
            self.known.clear()
        self.known.update(names)
        return None


class _Refused(NamedTuple):
    """The names are new, and they are too many."""

    names: frozenset[str]
    #: How many names the same actor has used.
    named: int
    most: int
    actor: str

    def error(self, **where: str) -> TooManyQueues:
        """The error for the client."""
        who = "callers without a key" if self.actor == ANYBODY else f"the key {self.actor.removeprefix('key:')}"
        would = "a new queue" if len(self.names) == 1 else f"{len(self.names):,} new queues"
        reason = (
            f"this would make {would}, and {who} may name {self.most:,} in all (LEDGERQ_QUEUES_PER_KEY), of which "
            f"{self.named:,} are there; use queues that exist (GET /queues)"
        )
        return TooManyQueues(say("queue: {reason}.", reason=reason), errors=[{"detail": reason, **where}])
