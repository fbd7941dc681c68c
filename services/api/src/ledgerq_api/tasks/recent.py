"""What this process has accepted lately, to be sent again should the ledger go back in time.

After an asynchronous failover, or a restore, the last commits are gone although they were answered. Here they are not: what
was accepted in the last seconds is kept, with the means to commit it once more under the same ids. Once a second,
while there is something, a look asks for the timeline and for two of the kept ids. If the one is another or
the others are missing, all that is missing is sent again. What is there is left as it is, ended or cancelled.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import psycopg2
import structlog

from ledgerq_api import metrics
from ledgerq_shared.database import Database, execute, type_cursor
from ledgerq_shared.errors import LedgerQError, Unavailable
from ledgerq_shared.statements.submit import NewTask
from ledgerq_shared.statements.went_back import count_found, find_missing, note_went_back, read_timeline

log = structlog.get_logger()

_LOOK_EVERY = 1.0
#: Most that is kept: tasks, and characters of what they are made of.
_MOST_TASKS = 50_000
_MOST_CHARACTERS = 32 * 1024 * 1024
#: Ids of one question.
_ASKED_AT_ONCE = 5000


class Kept(NamedTuple):
    """One commit."""

    at: float
    ids: Sequence[UUID]
    characters: int
    #: Commits it once more: what is there is left alone. Returns how many may run, by queue.
    again: Callable[[], Counter[str]]


class Recent:
    """Keeps what was accepted, and sends it again.

    Args:
        wake: tells workers of what may run.
        seconds: for so long it is kept, before the last look that found all well; 0: nothing is.
    """

    def __init__(self, database: Database, wake: Callable[[Counter[str]], None], *, seconds: float) -> None:
        self._seconds = seconds
        self._database = database
        self._wake = wake
        self._lock = threading.Lock()
        self._kept: deque[Kept] = deque()
        self._tasks = self._characters = 0
        self._timeline: str | None = None
        self._tells_timeline = True
        #: The newest id when all was well last.
        self._known: UUID | None = None
        self._well_at: float | None = None
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        self._has_some = threading.Event()

    def keep(self, tasks: Sequence[NewTask], sent: Sequence[NewTask], again: Callable[[], Counter[str]]) -> None:
        """These were committed, and ``again`` does it once more: what is there it leaves alone. Returns how many may run.

        Args:
            sent: all that ``again`` holds, also what has become no task.
        """
        if not tasks or not self._seconds:
            return
        ids, characters = [task.id for task in tasks], sum(map(_characters, sent))
        with self._lock:
            self._kept.append(Kept(time.monotonic(), ids, characters, again))
            self._tasks += len(ids)
            self._characters += characters
            while self._tasks > _MOST_TASKS or self._characters > _MOST_CHARACTERS:
                self._drop_oldest()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recent", daemon=True)
                self._thread.start()
            self._has_some.set()

    def close(self) -> None:
        """Look no more."""
        self._is_over.set()
        self._has_some.set()

    def _give_up(self) -> None:
        with self._lock:
            self._seconds = 0.0
            while self._kept:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._kept.popleft()
        self._tasks -= len(oldest.ids)
        self._characters -= oldest.characters

    def _run(self) -> None:
        while self._has_some.wait() and not self._is_over.is_set():
            try:
                self.look()
            except Unavailable:
                pass  # nothing is dropped before it answers again
            except psycopg2.Error as error:  # such as a PostgreSQL that does not tell its timeline
                log.warning("api.recent.not_possible", what="not watched any more", error=str(error).strip())
                self._give_up()
                return
            self._is_over.wait(_LOOK_EVERY)

    def look(self) -> None:
        """Compare what the ledger has with what it had.

        Raises:
            Unavailable: it does not answer.
        """
        now = time.monotonic()
        with self._lock:
            kept = list(self._kept)
            if not kept:
                self._has_some.clear()
                return
        newest = kept[-1].ids[-1]
        since = next((one.ids[0] for one in kept if self._well_at is None or one.at > self._well_at), newest)
        witnesses = {since, newest, self._known or newest}
        with self._database.transaction(writes=True, lasts=False) as cursor:  # a standby knows less
            [(found,)] = execute(cursor, count_found(list(witnesses)))
            timeline = self._timeline_now(cursor)
        is_suspicious = found < len(witnesses) or (self._timeline is not None and timeline != self._timeline)
        if is_suspicious:
            self._send_again(kept, timeline)
        self._timeline, self._known, self._well_at = timeline, newest, now
        with self._lock:
            while self._kept and self._kept[0].at < now - self._seconds:
                self._drop_oldest()

    def _timeline_now(self, cursor: type_cursor) -> str | None:
        """The timeline of a server that takes writes; null: it does not tell, as Aurora."""
        if self._tells_timeline:
            try:
                [(timeline,)] = execute(cursor, read_timeline())
            except (psycopg2.errors.FeatureNotSupported, psycopg2.errors.ObjectNotInPrerequisiteState) as error:
                self._tells_timeline = False
                log.warning(
                    "api.recent.no_timeline", what="only tasks are looked for", error=error.diag.message_primary
                )
            else:
                return str(timeline)
        return None

    def _send_again(self, kept: list[Kept], timeline: str | None) -> None:
        missing = self._missing(kept)
        if not missing:
            log.info("api.recent.all_there", timeline=timeline, before=self._timeline)
            return
        ready: Counter[str] = Counter()
        lost_at = next(one.at for one in kept if not missing.isdisjoint(one.ids))
        for one in kept:
            if not missing.isdisjoint(one.ids):
                try:
                    ready += one.again()
                except Unavailable:
                    raise
                except (psycopg2.Error, LedgerQError) as error:  # such as a unique key that is another's by now
                    log.warning(
                        "api.recent.not_sent_again", ids=[str(task_id) for task_id in one.ids], error=str(error)
                    )
        self._wake(ready)
        still = self._missing(kept)
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

    def _missing(self, kept: list[Kept]) -> set[UUID]:
        ids = [task_id for one in kept for task_id in one.ids]
        missing: set[UUID] = set()
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            with self._database.transaction(writes=True, lasts=False) as cursor:
                rows: list[tuple[Any, ...]] = execute(cursor, find_missing(ids[start : start + _ASKED_AT_ONCE]))
            missing.update(UUID(str(row[0])) for row in rows)
        return missing


def _characters(task: NewTask) -> int:
    size, options = len(task.parameters), task.options
    if options is not None:
        size += sum(len(value) for value in options if type(value) is str) + sum(map(len, options.tags or ()))
    return size
