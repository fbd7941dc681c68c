"""A commit of accepted tasks: it is repeated until its outcome is known; then workers are woken, and the commit is kept
for a while.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import psycopg2

from ledgerq_api.tasks.recent import Again, Recent
from ledgerq_shared import outages
from ledgerq_shared.errors import InvalidRequest
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, Database
from ledgerq_shared.postgres.repeating import until_known
from ledgerq_shared.statements.idempotency import KeyedSubmit
from ledgerq_shared.statements.submit import NewTask
from ledgerq_shared.tasks.submitting import Existing
from ledgerq_shared.tasks.waking import Waker

T = TypeVar("T")

#: The outcome of a submit: the id of its task (the id of the first one if its Idempotency-Key was known), or the task
#: that holds its unique key.
Outcome = UUID | Existing

#: Seconds for which a submit that PostgreSQL refuses for a while, or whose commit was interrupted, is sent again.
_RESEND_FOR = 4.0


class Committed(NamedTuple, Generic[T]):
    """One transaction."""

    outcome: T
    #: By queue: how many tasks may run now.
    ready: Counter[str]
    #: The tasks that it has put into the ledger.
    tasks: Sequence[NewTask]
    #: All tasks that were sent, also those that were not accepted.
    sent: Sequence[NewTask]


class Commits:
    """Commits tasks.

    Args:
        timeout: seconds after which a caller gets an answer, whatever PostgreSQL does.
        resend_seconds: for how many seconds accepted tasks are kept, to be sent again if the ledger goes back in time.
    """

    def __init__(self, database: Database, waker: Waker, *, timeout: float, resend_seconds: float = 0.0) -> None:
        self.timeout = timeout
        self._database = database
        self._waker = waker
        self._recent = Recent(database, waker.wake, seconds=resend_seconds)

    def transaction(self) -> AbstractContextManager[Cursor]:
        """The transaction of a commit."""
        return self._database.transaction(timeout=self.timeout)

    def made(self, commit: Callable[[bool], Committed[T]], keys: Sequence[KeyedSubmit], again: Again) -> T:
        """The outcome of ``commit``; its argument says whether none of its tasks can be in the ledger. After an
        interrupted commit, the tasks are sent again, under the same ids, until the outcome is known.

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
        """Stop keeping commits."""
        self._recent.close()


def refused(error: psycopg2.Error) -> InvalidRequest:
    """The client's error for a value that passed the API's checks and that PostgreSQL refuses."""
    return InvalidRequest(
        say("PostgreSQL cannot hold this task: {message_primary}.", message_primary=error.diag.message_primary)
    )
