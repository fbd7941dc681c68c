"""Work on many tasks at once of which PostgreSQL refuses one: the others go on, and that task is tried again by
itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial

import psycopg2
import structlog

from ledgerq_shared.errors import Unavailable
from ledgerq_shared.postgres.sqlstates import is_missing_right
from ledgerq_shared.process.batching import run_flush
from ledgerq_shared.sql import Row

log = structlog.get_logger()

#: How many tasks are tried at once while some tasks are set apart.
AT_ONCE = 250
#: Seconds until a task that was set apart is tried again, and how many are tried in one go.
_AGAIN_AFTER = 5.0
_MOST_AGAIN = 10
#: How many tasks may be set apart; if there are more, the fault concerns all.
_MOST = 1000
#: A task that has not been met for this many seconds is forgotten: another process has dealt with it.
_FORGET_AFTER = 600.0


class Apart:
    """Which tasks are set apart from some work. While there are none, the work is done as if this did not exist.

    Args:
        what: the work, for the log.
        told: called with the number of tasks that are set apart, whenever it changes.
    """

    def __init__(self, what: str, told: Callable[[int], object] = lambda _: None) -> None:
        self._what = what
        self._told = told
        #: By task id: when the task is to be tried again, by the monotonic clock.
        self._again_at: dict[str, float] = {}

    @property
    def ids(self) -> Collection[str]:
        """The ids of the tasks that are set apart."""
        return self._again_at.keys()

    def run(self, find: Callable[[int], list[tuple[str]]], do: Callable[[list[str] | None], list[Row]]) -> list[Row]:
        """Do the work; returns its rows for all tasks that PostgreSQL has accepted.

        Args:
            find: reads the ids of the first tasks that are to be done; its argument is how many.
            do: does the work on these tasks, in a transaction; with None, on all tasks (or as many as go at once).

        Raises:
            Unavailable: PostgreSQL is away or busy; no task is at fault.
            psycopg2.Error: all tasks are refused, and not because of one of them.
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

    def _one_by_one(
        self, find: Callable[[int], list[tuple[str]]], do: Callable[[list[str] | None], list[Row]]
    ) -> list[Row]:
        now = time.monotonic()
        self._again_at = {id_: at for id_, at in self._again_at.items() if now - at < _FORGET_AFTER}
        found = [task_id for (task_id,) in find(AT_ONCE + len(self._again_at))]
        fresh = [task_id for task_id in found if task_id not in self._again_at]
        due = [task_id for task_id in found if self._again_at.get(task_id, now) < now][:_MOST_AGAIN]
        rows: list[Row] = []
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


def _flush(
    do: Callable[[list[str] | None], list[Row]], rows: list[Row], batch: list[str]
) -> list[BaseException | None]:
    rows += do(batch)
    return [None] * len(batch)
