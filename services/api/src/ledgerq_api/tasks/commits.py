"""A commit of accepted tasks: repeated until its outcome is known; then workers are woken, and it is kept for a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import psycopg2

from ledgerq_api.tasks.recent import Again, Recent
from ledgerq_shared import outages
from ledgerq_shared.database import Cursor, Database
from ledgerq_shared.errors import InvalidRequest
from ledgerq_shared.repeating import until_known
from ledgerq_shared.statements.submit import KeyedSubmit, NewTask
from ledgerq_shared.submitting import Existing
from ledgerq_shared.waking import Waker

T = TypeVar("T")

#: What a submit comes to: the id of its task, which is the first one's where its Idempotency-Key was known; or the task
#: that holds its unique key.
Outcome = UUID | Existing

#: Seconds for which a submit that PostgreSQL refuses for a while, or whose commit was interrupted, is sent again.
_RESEND_FOR = 4.0


class Committed(NamedTuple, Generic[T]):
    """One transaction."""

    outcome: T
    #: By queue: how many tasks may run now.
    ready: Counter[str]
    #: Tasks that are in the ledger by it.
    tasks: Sequence[NewTask]
    #: All that were sent, also those that have become no tasks.
    sent: Sequence[NewTask]


class Commits:
    """Commits tasks.

    Args:
        timeout: seconds after which a caller is answered whatever PostgreSQL does.
        resend_seconds: for so long what was accepted is kept, to be sent again if the ledger goes back in time.
    """

    def __init__(self, database: Database, waker: Waker, *, timeout: float, resend_seconds: float = 0.0) -> None:
        self.timeout = timeout
        self._database = database
        self._waker = waker
        self._recent = Recent(database, waker.wake, seconds=resend_seconds)

    def transaction(self) -> AbstractContextManager[Cursor]:
        """In which a commit is made."""
        return self._database.transaction(timeout=self.timeout)

    def made(self, commit: Callable[[bool], Committed[T]], keys: Sequence[KeyedSubmit], again: Again) -> T:
        """What ``commit`` comes to, which is told whether none of its tasks can be in the ledger. What was sent into an
        interrupted commit is sent again, under the same ids, until the answer is known.

        Args:
            keys, again: as :meth:`Recent.keep` takes them.
        """
        committed = until_known(lambda is_repeated: commit(not is_repeated), seconds=_RESEND_FOR)
        if outages.POSTGRESQL_WRITES.is_on:
            outages.POSTGRESQL_WRITES.worked()
        self._waker.wake(committed.ready)
        self._recent.keep(committed.tasks, committed.sent, keys, again)
        return committed.outcome

    def close(self) -> None:
        """Keep nothing any more."""
        self._recent.close()


def refused(error: psycopg2.Error) -> InvalidRequest:
    """What the checks at the edge let pass and PostgreSQL does not is still the client's to change."""
    return InvalidRequest(f"PostgreSQL cannot hold this task: {error.diag.message_primary}.")
