"""Tasks by type and state, how tasks ended, and tasks that need a person: stuck, charged with deaths, quarantined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar

from prometheus_client.core import Metric as Family

from ledgerq_monitor.collectors.collector import Ledger, Names
from ledgerq_shared.postgres.database import execute
from ledgerq_shared.process.metrics import Metric
from ledgerq_shared.statements.read_metrics import count_stuck, count_worker_deaths, read_task_counts
from ledgerq_shared.states import FINAL

_TASKS = Metric(
    "ledgerq_tasks",
    "gauge",
    "Tasks in the ledger, by type, queue and state; exact.",
    ("task_type", "queue", "state"),
)
_ENDED = Metric(
    "ledgerq_tasks_ended_total",
    "counter",
    "Tasks that ended as SUCCESS, FAILURE or REVOKED since the monitor started, by whatever path.",
    ("task_type", "queue", "state"),
)
_STUCK = Metric("ledgerq_stuck_tasks", "gauge", "Tasks in the hands of dead workers that nobody has taken back.")
_STUCK_SECONDS = Metric(
    "ledgerq_stuck_seconds", "gauge", "For how long the first of the workers with stuck tasks has been dead; 0: none."
)
_SUSPECTS = Metric(
    "ledgerq_suspect_tasks", "gauge", "Unfinished tasks that were running when a worker died; they run alone."
)
_QUARANTINED = Metric(
    "ledgerq_quarantined_tasks",
    "gauge",
    "Tasks in the ledger that ended as TaskQuarantined: they killed their workers.",
)

#: A worker's lease may be over for this long before its tasks count as stuck: recovery needs a moment, in seconds.
_STUCK_AFTER = 30.0


class Tasks:
    """The counters of the ledger, and how much they gained.

    Args:
        most_names: of task types and of queues; further ones count as ``other``.
    """

    name = "tasks"
    metrics: ClassVar[tuple[Metric, ...]] = (_TASKS, _ENDED)
    patience = 1

    def __init__(self, ledger: Ledger, *, most_names: int) -> None:
        self._ledger = ledger
        self._type = Names(most_names)
        self._queue = Names(most_names)
        #: By type, queue and final state: up to which count tasks are in ``_ended``, or were there before the first
        #: look.
        self._counted: dict[tuple[str, str, str], int] = {}
        self._is_first = True
        #: The time of the last look. Older data would have lower counts, as if tasks had been deleted, and these tasks
        #: would later seem to end again.
        self._seen_at: datetime | None = None
        self._ended: Counter[tuple[str, str, str]] = Counter()

    def collect(self) -> Iterable[Family]:
        """Read the counts. If a final state has gained tasks since the last look, these have ended meanwhile."""
        rows, as_of = self._ledger.look(lambda cursor: execute(cursor, read_task_counts()), not_before=self._seen_at)
        self._seen_at = as_of or self._ledger.now()
        exported = set(self._ended)
        tasks: Counter[tuple[str, str, str]] = Counter()
        for task_type, queue, state, count in sorted(rows, key=lambda row: -row.tasks):
            labels = self._type(task_type), self._queue(queue), state
            tasks[labels] += count
            for final in FINAL:
                self._ended.setdefault((*labels[:2], final), 0)
            if state in FINAL:
                before = self._counted.get((task_type, queue, state), count if self._is_first else 0)
                if labels in exported:  # a series must begin at 0, or nobody sees that it has grown
                    # When old tasks are deleted, counts shrink; that is not an end.
                    self._ended[labels] += max(count - before, 0)
                    before = count
                self._counted[task_type, queue, state] = before
        self._is_first = False
        return [_TASKS.family(tasks), _ENDED.family(self._ended)]


class Stuck:
    """Tasks that recovery should have taken back."""

    name = "stuck"
    metrics: ClassVar[tuple[Metric, ...]] = (_STUCK, _STUCK_SECONDS)
    patience = 1

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Family]:
        """Read the claims; there are as many as busy slots."""
        [(tasks, seconds)] = self._ledger.fetch(count_stuck(after=_STUCK_AFTER))
        return [_STUCK.family({(): tasks}), _STUCK_SECONDS.family({(): seconds})]


class Deaths:
    """Tasks that were running when workers died."""

    name = "deaths"
    metrics: ClassVar[tuple[Metric, ...]] = (_SUSPECTS, _QUARANTINED)
    patience = 2

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Family]:
        """Read the few such tasks; they have an index."""
        [(suspects, quarantined)] = self._ledger.fetch_old(count_worker_deaths())
        return [_SUSPECTS.family({(): suspects}), _QUARANTINED.family({(): quarantined})]
