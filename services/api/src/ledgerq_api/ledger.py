"""The ledger for code in the event loop: synchronous work runs in threads, with a deadline on every wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ledgerq_api.turns import Turns
from ledgerq_shared.errors import LedgerUnavailable, ServerBusy
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, Database
from ledgerq_shared.postgres.repeating import until_known
from ledgerq_shared.postgres.replica import Replica, Seen, look
from ledgerq_shared.sql import Row, Statement

T = TypeVar("T")

#: How many reads run at the same time; more wait for a thread. The number is small because the API may share the
#: machine with PostgreSQL.
_READERS = 3
#: How many reads that may be a little old, and so may ask a replica, run at the same time.
LOOKS = _READERS + 4
#: How many lists run at the same time: a filter that no index serves well may take seconds, and must not keep others
#: waiting.
_LISTS = 4
#: How many of these one key may have.
_LISTS_A_KEY = 3
_TOO_MANY_LISTS = f"{_LISTS_A_KEY} lists of yours are being read, and take long; try again."
#: Seconds that a statement of a list may take: a filter that no index serves well must not hold a connection for
#: minutes.
LIST_SECONDS = 8.0
#: Seconds for which a read that PostgreSQL refuses for a while is tried again.
_REPEAT_FOR = 1.0


class Ledger:
    """Runs work on the database in a small pool of threads.

    Args:
        timeout: seconds after which a caller gets the error that the ledger is away, whatever its thread does.
        replica: asked first by reads that may be a little old; None: there is none.
    """

    def __init__(self, database: Database, *, timeout: float, replica: Replica | None = None) -> None:
        self.database = database
        self.timeout = timeout
        self.replica = replica
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="ledger")
        self._lists = Turns(_LISTS, each=_LISTS_A_KEY, name="lists")

    async def run_list(self, work: Callable[[Cursor], T], *, actor: str, may_be_old: bool) -> Seen[T]:
        """As :meth:`look`, for a read that may take long. Each ``actor`` has a few at a time; further ones wait for its
        own.

        Args:
            may_be_old: False: the primary is asked.

        Raises:
            ServerBusy: the actor's earlier lists used up the time.
        """
        reading = self._lists.submit(actor, partial(self._look, work, seconds=LIST_SECONDS, may_be_old=may_be_old))
        waiting = asyncio.wrap_future(reading)
        try:
            # wait_for would not do: a thread that has begun goes on, and keeps the actor's turn.
            await asyncio.wait((waiting,), timeout=self.timeout)
            if not waiting.done():
                raise no_answer(self.timeout) if reading.running() else ServerBusy(_TOO_MANY_LISTS)
            return waiting.result()
        finally:
            waiting.cancel()

    async def look(self, work: Callable[[Cursor], T]) -> Seen[T]:
        """As :meth:`run`, for a read that may be a little old: the replica answers it if there is one that can be
        used.
        """
        return await self._in_time(self._look, work)

    async def run(self, work: Callable[[Cursor], T], *, writes: bool = False) -> T:
        """What ``work`` returns. It only reads, each statement by itself; or, with ``writes``, it writes in one
        transaction what may be written twice.
        """
        return await self._in_time(lambda: self.repeatable(work, writes=writes))

    async def fetch(self, statement: Statement[Row]) -> list[Row]:
        """The rows of one statement that only reads."""
        return await self._in_time(self.rows, statement)

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """What ``work`` returns; for computation that would block the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *args)

    def repeatable(self, work: Callable[[Cursor], T], *, writes: bool = False, seconds: float = 0.0) -> T:
        """As :meth:`run`, in the calling thread.

        Args:
            writes: the work writes: it is done once more if its outcome is unknown, and it waits for no standby.
            seconds: how long a statement that only reads may take; 0: any time.
        """

        def once(_: bool) -> T:
            with self.database.transaction(timeout=self.timeout, lasts=False) as cursor:
                return work(cursor)

        def read(_: bool) -> T:
            with self.database.reads(timeout=self.timeout, statement_timeout=seconds) as cursor:
                return work(cursor)

        return until_known(once if writes else read, seconds=_REPEAT_FOR)

    def _look(self, work: Callable[[Cursor], T], *, seconds: float = 0.0, may_be_old: bool = True) -> Seen[T]:
        replica = self.replica if may_be_old else None
        return look(replica, work, partial(self.repeatable, seconds=seconds), timeout=self.timeout)

    def rows(self, statement: Statement[Row]) -> list[Row]:
        """As :meth:`fetch`, in the calling thread."""
        return until_known(lambda _: self.database.fetch(statement, self.timeout), seconds=_REPEAT_FOR)

    def close(self) -> None:
        """Let the threads end when their work is done."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._lists.close()
        if self.replica is not None:
            self.replica.close()

    async def _in_time(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.wait_for(self.in_thread(work, *args), self.timeout)
        except TimeoutError:
            raise no_answer(self.timeout) from None


def no_answer(timeout: float) -> LedgerUnavailable:
    """The error for a wait that took too long."""
    return LedgerUnavailable(say("PostgreSQL did not answer within {timeout:g} seconds.", timeout=timeout))


class Deadline:
    """Ends the wait for futures that take too long, with one timer for all of them, so that each costs next to nothing.

    Args:
        seconds: how long a future may take, from :meth:`watch`.
        error: called with the future's item once the future is late; what it returns is raised to the caller that
            waits.
    """

    def __init__(self, seconds: float, error: Callable[[Any], Exception]) -> None:
        self._seconds = seconds
        self._error = error
        self._waiting: deque[tuple[float, asyncio.Future[Any], Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, future: asyncio.Future[T], item: Any = None) -> asyncio.Future[T]:
        """The same future, which now ends within the time limit."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        loop = future.get_loop()
        waiting.append((loop.time() + self._seconds, future, item))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._check)
        return future

    def _check(self) -> None:
        self._timer = None
        waiting = self._waiting
        loop = asyncio.get_running_loop()
        while waiting and (waiting[0][1].done() or waiting[0][0] <= loop.time()):
            _, future, item = waiting.popleft()
            if not future.done():
                future.set_exception(self._error(item))
        if waiting:
            self._timer = loop.call_at(waiting[0][0], self._check)
