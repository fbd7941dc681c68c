"""Natural batching: one flush runs at a time, and the items that arrive meanwhile form the next one.

There is no timer. An idle system flushes the first item at once; a busy system makes large batches by itself, because
items gather while a flush runs. Submits, status reads, adoption and wake-ups use this module; a worker's recorder has
its own batches. There are two classes, one for callers in threads and one for callers in an event loop, around one
function that runs a flush.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Generic, TypeVar

from ledgerq_shared.errors import Unavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

#: Turns a batch into one outcome per item, in the batch's order. An outcome that is an exception is raised to that
#: item's caller alone.
Flush = Callable[[list[Item]], Sequence[Outcome | BaseException]]


def run_flush(flush: Flush[Item, Outcome], items: list[Item]) -> list[Outcome | BaseException]:
    """Flush ``items``; if that fails, find the item at fault by halving, so that it fails alone.

    An outage (:class:`~ledgerq_shared.errors.Unavailable`) is no item's fault: every item gets it at once.
    """
    try:
        outcomes = list(flush(items))
    except Unavailable as error:
        return [error] * len(items)
    except Exception as error:
        if len(items) == 1:
            return [error]
    else:
        # A flush that answers for more or fewer items has a bug; callers must get an error and not wait for ever.
        is_complete = len(outcomes) == len(items)
        return (
            outcomes if is_complete else [RuntimeError(f"{len(outcomes)} outcomes for {len(items)} items")] * len(items)
        )
    middle = len(items) // 2
    return run_flush(flush, items[:middle]) + run_flush(flush, items[middle:])


class Batcher(Generic[Item, Outcome]):
    """Batches for callers in threads. The flush runs in a thread of the batcher's own, started by the first item."""

    def __init__(self, flush: Flush[Item, Outcome], *, max_items: int, name: str) -> None:
        self._flush = flush
        self._max_items = max_items
        self._name = name
        self._pending: deque[tuple[Item, Future[Outcome]]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, item: Item) -> Future[Outcome]:
        """Queue an item; the future holds its outcome after the flush that took it.

        A caller that stops waiting (cancelled future) does not stop the flush of its item.
        """
        future: Future[Outcome] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError(f"batcher {self._name} is closed")
            self._pending.append((item, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"batcher-{self._name}", daemon=True)
                self._thread.start()
            self._changed.notify()
        return future

    def close(self, timeout: float | None = None) -> None:
        """Flush what is pending and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._take():
            outcomes = run_flush(self._flush, [item for item, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.set_running_or_notify_cancel():
                    continue
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    def _take(self) -> list[tuple[Item, Future[Outcome]]]:
        """The next batch; empty when the batcher is closed and nothing is left."""
        with self._changed:
            while not self._pending and not self._closed:
                self._changed.wait()
            return [self._pending.popleft() for _ in range(min(len(self._pending), self._max_items))]


class AsyncBatcher(Generic[Item, Outcome]):
    """Batches for callers in one event loop. The flush itself is synchronous and runs in ``executor``."""

    def __init__(self, flush: Flush[Item, Outcome], *, max_items: int, executor: Executor) -> None:
        self._flush = flush
        self._max_items = max_items
        self._executor = executor
        self._pending: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._runner: asyncio.Task[None] | None = None

    def submit(self, item: Item) -> asyncio.Future[Outcome]:
        """Queue an item. A caller that stops waiting (cancelled future) does not stop the flush of its item."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._pending.append((item, future))
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        return future

    async def close(self) -> None:
        """Wait until everything that was submitted has its outcome."""
        while self._runner is not None:
            await self._runner

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._max_items], self._pending[self._max_items :]
                items = [item for item, _ in batch]
                outcomes: list[Outcome | BaseException]
                try:
                    outcomes = await loop.run_in_executor(self._executor, partial(run_flush, self._flush, items))
                except Exception as error:  # the executor has ended: tell the callers that wait
                    outcomes = [error] * len(items)
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    if future.done():
                        continue
                    if isinstance(outcome, BaseException):
                        future.set_exception(outcome)
                    else:
                        future.set_result(outcome)
        finally:
            self._runner = None
