"""Work on many tasks at once of which PostgreSQL refuses one: the others go on, and that one is tried again, by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import psycopg2
import structlog

from ledgerq_shared.batching import run_flush
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.sqlstates import is_missing_right

log = structlog.get_logger()

Rows = list[tuple[Any, ...]]

#: How many tasks are tried at once beside those that were set apart.
AT_ONCE = 250
#: Seconds until one that was set apart is tried again, and how many are in one go.
_AGAIN_AFTER = 5.0
_MOST_AGAIN = 10
#: Most that are set apart; with more it is everybody's trouble.
_MOST = 1000
#: One that is not met any more for so many seconds is forgotten: somebody else has done with it.
_FORGET_AFTER = 600.0


class Apart:
    """Which tasks are set apart from some work. While there are none, the work is what it was without.

    Args:
        what: the work, for the log.
        told: hears how many are set apart, whenever that changes.
    """

    def __init__(self, what: str, told: Callable[[int], object] = lambda _: None) -> None:
        self._what = what
        self._told = told
        #: By task id when it is to be tried again, by the monotonic clock.
        self._again_at: dict[str, float] = {}

    @property
    def ids(self) -> Collection[str]:
        """What is set apart."""
        return self._again_at.keys()

    def run(self, find: Callable[[int], Rows], do: Callable[[list[str] | None], Rows]) -> Rows:
        """Do the work; its rows, of whatever PostgreSQL has taken.

        Args:
            find: reads the first so many ``(task_id,)`` that are to be done.
            do: does it, in a transaction, with these tasks; with null, with all (or as many as go at once).

        Raises:
            Unavailable: PostgreSQL is away or busy; nobody is to blame.
            psycopg2.Error: all are refused, and for no reason of their own.
        """
        if not self._again_at:
            try:
                return do(None)
            except psycopg2.Error as error:
                if is_missing_right(error):
                    raise
        elif len(self._again_at) >= _MOST:
            self._again_at.clear()
            return do(None)
        rows = self._one_by_one(find, do)
        self._told(len(self._again_at))
        return rows

    def _one_by_one(self, find: Callable[[int], Rows], do: Callable[[list[str] | None], Rows]) -> Rows:
        now = time.monotonic()
        self._again_at = {id_: at for id_, at in self._again_at.items() if now - at < _FORGET_AFTER}
        found = [str(row[0]) for row in find(AT_ONCE + len(self._again_at))]
        fresh = [task_id for task_id in found if task_id not in self._again_at]
        due = [task_id for task_id in found if self._again_at.get(task_id, now) < now][:_MOST_AGAIN]
        rows: Rows = []
        for batch in (fresh[:AT_ONCE], *([task_id] for task_id in due)):
            for task_id, outcome in zip(
                batch, run_flush(partial(_flush, do, rows), batch) if batch else (), strict=True
            ):
                if isinstance(outcome, Unavailable):
                    raise outcome
                self._learn(task_id, outcome)
        return rows

    def _learn(self, task_id: str, outcome: BaseException | None) -> None:
        was_apart = task_id in self._again_at
        if outcome is None:
            if self._again_at.pop(task_id, None) is not None:
                log.info("apart.passed", what=self._what, task_id=task_id)
            return
        self._again_at[task_id] = time.monotonic() + _AGAIN_AFTER
        if not was_apart:
            log.error("apart.set_apart", what=self._what, task_id=task_id, error=str(outcome).strip())


def _flush(do: Callable[[list[str] | None], Rows], rows: Rows, batch: list[str]) -> list[BaseException | None]:
    rows += do(batch)
    return [None] * len(batch)
