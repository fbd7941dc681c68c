"""One reader of the ledger for all streams of this process.

A stream subscribes and then gets every event after the number that it has seen. History and news come in the same way,
so nothing can be lost between them. Every twentieth of a second, one statement asks for the news of all subscribers
that wait for some. It does not ask for a subscriber whose client reads slowly: the ledger is that client's buffer.
Without subscribers nothing runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter

import structlog

from ledgerq_api.ledger import Ledger
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.events import Event, expand
from ledgerq_shared.statements.read_stream import News, read_news

log = structlog.get_logger()

#: Seconds between two looks: on average, an event is seen after half of that.
_READ_EVERY = 0.05
#: Seconds until the next try while PostgreSQL is away.
_TRY_AGAIN_AFTER = 1.0
#: How many stored events are read for one subscriber at a time.
_MOST_EVENTS = 200
#: About how many characters of events one look reads; the subscribers share them.
_MOST_CHARACTERS = 8 * 1024 * 1024


class Subscription:
    """What one stream has seen and is about to see."""

    __slots__ = ("events", "has_more", "is_over", "seen", "task_id", "wake")

    def __init__(self, task_id: str, seen: int) -> None:
        self.task_id = task_id
        #: The number of the last event that was put into ``events``.
        self.seen = seen
        #: Events that are to be sent.
        self.events: list[Event] = []
        #: Whether the ledger already has further events.
        self.has_more = False
        #: Whether nothing comes after ``events``: the task is final, the client has gone, or the process is about to
        #: end.
        self.is_over = False
        #: Set when any of this has changed.
        self.wake = asyncio.Event()

    def end(self) -> None:
        """Nothing more will come."""
        self.is_over = True
        self.wake.set()


class Feed:
    """Tells subscribers what is new."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._all: set[Subscription] = set()
        #: Subscribers for which the next look comes at once: new ones, and those in the middle of a long history.
        self._hasty: list[Subscription] = []
        self._hurry = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._is_stopping = False

    def subscribe(self, task_id: str, seen: int) -> Subscription:
        """Follow a task from the event after ``seen`` on. Give the subscription back to :meth:`unsubscribe`."""
        subscription = Subscription(task_id, seen)
        if self._is_stopping:
            subscription.end()
            return subscription
        self._all.add(subscription)
        self._ask_now(subscription)
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read_on())
        return subscription

    def take(self, subscription: Subscription) -> list[Event]:
        """The events to be sent now; after that, looks ask for the subscriber's news again."""
        subscription.wake.clear()
        events, subscription.events = subscription.events, []
        if subscription.has_more:
            subscription.has_more = False
            self._ask_now(subscription)
        return events

    def unsubscribe(self, subscription: Subscription) -> None:
        """Note that the stream has ended."""
        self._all.discard(subscription)
        subscription.is_over = True

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return len(self._all)

    def stop(self) -> None:
        """End all streams: the process is about to end, and clients go on elsewhere from what they have seen."""
        self._is_stopping = True
        for subscription in self._all:
            subscription.end()
        self._all.clear()
        self._hurry.set()

    async def close(self) -> None:
        """Wait for a look that has begun."""
        self.stop()
        if self._reader is not None:
            await self._reader
        self._thread.shutdown(wait=False)

    def _ask_now(self, subscription: Subscription) -> None:
        self._hasty.append(subscription)
        self._hurry.set()

    async def _read_on(self) -> None:
        loop = asyncio.get_running_loop()
        due_at = loop.time() + _READ_EVERY
        try:
            while self._all:
                await self._pause(due_at - loop.time())
                begun_at = loop.time()
                is_due = begun_at >= due_at
                asked, self._hasty = (self._all if is_due else self._hasty), []
                self._hurry.clear()
                pause = await self._look([one for one in asked if not one.events and not one.is_over])
                if is_due or pause > _READ_EVERY:
                    # After a look that takes long, the same time is left to everybody else.
                    due_at = max(begun_at + pause, 2 * loop.time() - begun_at)
        finally:
            self._reader = None

    async def _pause(self, seconds: float) -> None:
        if seconds > 0 and not self._hasty:
            try:
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
            except TimeoutError:
                return

    async def _look(self, waiting: Sequence[Subscription]) -> float:
        """Look once; returns the seconds until the next look is worth while."""
        if not waiting:
            return _READ_EVERY
        most = _MOST_CHARACTERS // len(waiting)
        statement = read_news(
            [one.task_id for one in waiting],
            [one.seen for one in waiting],
            limit=_MOST_EVENTS,
            most_characters=most,
        )
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._thread, self._ledger.rows, statement)
        except Unavailable:
            return _TRY_AGAIN_AFTER  # the streams stay open: what happens meanwhile will be in the ledger
        except Exception:
            log.exception("api.stream.failed", streams=len(waiting))
            return _TRY_AGAIN_AFTER
        for index, news in groupby(rows, key=attrgetter("follower")):
            _tell(waiting[index], list(news), most)
        return _READ_EVERY


def _tell(subscription: Subscription, news: Sequence[News], most_characters: int) -> None:
    if subscription.is_over:
        return
    latest = news[-1]
    stored = [one.event for one in news if one.event is not None]
    # A stored row may stand for steps that the client has seen already.
    events = [event for event in expand(stored) if event.seq > subscription.seen]
    is_full = len(news) == _MOST_EVENTS or sum(len(event.data or "") for event in stored[:-1]) > most_characters
    has_more = is_full and events[-1].seq < latest.task_seq
    subscription.events = events
    subscription.has_more = has_more
    subscription.seen = events[-1].seq if has_more else latest.task_seq
    subscription.is_over = latest.is_final and not has_more
    subscription.wake.set()
