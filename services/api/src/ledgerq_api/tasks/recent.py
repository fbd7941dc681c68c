"""Keeps what this process has accepted lately, so that it can be sent again if the ledger goes back in time.

After an asynchronous failover, or a restore, the last commits are gone although clients were told 202. So the tasks
that were accepted in the last seconds are kept here, as a few bytes each, with the means to commit them once more under
the same ids. Once a second, while anything is kept, a look asks for the timeline and for two of the kept ids. If the
timeline has changed, or an id is missing, all missing tasks are sent again. Tasks that are there are not touched,
whether they have ended or were cancelled.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
import psycopg2
import structlog

from ledgerq_api import metrics
from ledgerq_shared.errors import LedgerQError, Unavailable
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.timeline import Timeline
from ledgerq_shared.statements.idempotency import KeyedSubmit
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.statements.went_back import count_found, find_missing, note_went_back

log = structlog.get_logger()

_ASK_EVERY = 1.0
#: How much is kept at most, in bytes: this is enough for 450,000 tasks without parameters.
_MOST_BYTES = 32 * 1024 * 1024
#: How many ids one query asks for.
_ASKED_AT_ONCE = 5000


#: Encoded, the tasks of a commit take a sixth of the memory, and garbage collection does not walk through them.
_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode = msgspec.msgpack.Decoder().decode

#: Commits tasks once more, given their Idempotency-Keys and the ids of those that had been accepted; it does not touch
#: tasks that are there. Returns how many may run, by queue.
Again = Callable[[Sequence[NewTask], Sequence[KeyedSubmit], Collection[UUID]], Counter[str]]


class Kept(NamedTuple):
    """One commit."""

    at: float
    first: UUID
    last: UUID
    #: Everything that was sent, encoded: tasks and Idempotency-Keys.
    sent: bytes
    #: The ids that did not become tasks.
    refused: frozenset[UUID]
    again: Again

    def restored(self) -> tuple[list[NewTask], list[KeyedSubmit]]:
        """What was sent."""
        tasks, keys = _decode(self.sent)
        return [_task(*row) for row in tasks], [_key(*row) for row in keys]

    def ids(self) -> list[UUID]:
        """The ids of all tasks that this commit created."""
        return [task_id for row in _decode(self.sent)[0] if (task_id := UUID(bytes=row[0])) not in self.refused]


def _task(task_id: bytes, *row: Any) -> NewTask:
    task = NewTask(UUID(bytes=task_id), *row)
    if task.options is None:
        return task
    options = NewTaskOptions(*task.options)
    rerun_of = options.rerun_of and UUID(bytes=cast("bytes", options.rerun_of))
    return task._replace(options=options._replace(rerun_of=rerun_of))


def _key(name: str, body_sha256: bytes, task_id: bytes, owner: str) -> KeyedSubmit:
    return KeyedSubmit(name, body_sha256, UUID(bytes=task_id), owner)


class Recent:
    """Keeps what was accepted, and sends it again.

    Args:
        wake: wakes workers for tasks that may run.
        seconds: for how many seconds before the last look that found all well tasks are kept; 0: none are kept.
    """

    def __init__(self, database: Database, wake: Callable[[Counter[str]], None], *, seconds: float) -> None:
        self._seconds = seconds
        self._database = database
        self._wake = wake
        self._lock = threading.Lock()
        self._kept: deque[Kept] = deque()
        self._bytes = 0
        self._timeline: str | None = None
        self._timeline_of = Timeline()
        #: The newest id at the last look that found all well.
        self._known: UUID | None = None
        self._well_at: float | None = None
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        self._has_some = threading.Event()

    def keep(
        self, tasks: Sequence[NewTask], sent: Sequence[NewTask], keys: Sequence[KeyedSubmit], again: Again
    ) -> None:
        """Note that ``tasks`` were committed.

        Args:
            sent: all tasks of the commit, also those that were not accepted.
            keys: the Idempotency-Keys in it.
            again: commits once more, given ``sent`` and ``keys``.
        """
        if not tasks or not self._seconds:
            return
        encoded = _encode((sent, keys))
        refused = {task.id for task in sent}.difference(task.id for task in tasks) if len(tasks) < len(sent) else ()
        one = Kept(time.monotonic(), tasks[0].id, tasks[-1].id, encoded, frozenset(refused), again)
        with self._lock:
            self._kept.append(one)
            self._bytes += len(encoded)
            while self._bytes > _MOST_BYTES:
                self._drop_oldest()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recent", daemon=True)
                self._thread.start()
            self._has_some.set()

    def close(self) -> None:
        """Stop looking."""
        self._is_over.set()
        self._has_some.set()

    def _give_up(self) -> None:
        with self._lock:
            self._seconds = 0.0
            while self._kept:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._bytes -= len(self._kept.popleft().sent)

    def _run(self) -> None:
        while self._has_some.wait() and not self._is_over.is_set():
            try:
                self.look()
            except Unavailable:
                pass  # nothing is dropped before PostgreSQL answers again
            except psycopg2.Error as error:  # it refuses the look itself: a right was taken away, say
                log.warning("api.recent.not_possible", what="not watched any more", error=str(error).strip())
                self._give_up()
                return
            self._is_over.wait(_ASK_EVERY)

    def look(self) -> None:
        """Compare what the ledger has with what is kept here.

        Raises:
            Unavailable: it does not answer.
        """
        now = time.monotonic()
        with self._lock:
            kept = list(self._kept)
            if not kept:
                self._has_some.clear()
                return
        newest = kept[-1].last
        since = next((one.first for one in kept if self._well_at is None or one.at > self._well_at), newest)
        witnesses = {since, newest, self._known or newest}
        with self._database.transaction(writes=True, lasts=False) as cursor:  # writes, so that no standby answers
            [(found,)] = execute(cursor, count_found(list(witnesses)))
            timeline = self._timeline_of.read(cursor)
        is_suspicious = found < len(witnesses) or (self._timeline is not None and timeline != self._timeline)
        if is_suspicious:
            self._send_again(kept, timeline)
        self._timeline, self._known, self._well_at = timeline, newest, now
        with self._lock:
            while self._kept and self._kept[0].at < now - self._seconds:
                self._drop_oldest()

    def _send_again(self, kept: list[Kept], timeline: str | None) -> None:
        ids = [one.ids() for one in kept]
        missing = self._missing(ids)
        if not missing:
            log.info("api.recent.all_there", timeline=timeline, before=self._timeline)
            return
        ready: Counter[str] = Counter()
        lossy = [(one, own) for one, own in zip(kept, ids, strict=True) if not missing.isdisjoint(own)]
        lost_at = lossy[0][0].at
        for one, own in lossy:
            try:
                ready += one.again(*one.restored(), frozenset(own))
            except Unavailable:
                raise
            except (psycopg2.Error, LedgerQError) as error:  # such as a unique key that is another's by now
                log.warning("api.recent.not_sent_again", ids=[str(task_id) for task_id in own], error=str(error))
        self._wake(ready)
        still = self._missing(ids)
        lost_for = time.monotonic() - lost_at
        log.error(
            "ledger.went_back",
            timeline=timeline,
            before=self._timeline,
            lost=len(missing),
            sent_again=len(missing) - len(still),
        )
        metrics.lost.inc(len(missing))
        with self._database.transaction() as cursor:
            note = note_went_back(
                timeline=timeline, before=self._timeline, known_ago=lost_for, lost=len(missing),
                sent_again=len(missing) - len(still), noticed_by="api",
            )  # fmt: skip
            execute(cursor, note)

    def _missing(self, kept: Sequence[Sequence[UUID]]) -> set[UUID]:
        ids = [task_id for own in kept for task_id in own]
        missing: set[UUID] = set()
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            with self._database.transaction(writes=True, lasts=False) as cursor:
                rows = execute(cursor, find_missing(ids[start : start + _ASKED_AT_ONCE]))
            missing.update(UUID(task_id) for (task_id,) in rows)
        return missing
