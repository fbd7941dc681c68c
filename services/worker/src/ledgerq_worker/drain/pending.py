"""What the legs of one slot have to write into the ledger, until a flush has written it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from ledgerq_worker.slot.encoding import to_json
from ledgerq_worker.slot.legs import Leg

#: How many log lines one flush may have, and their size in bytes. Otherwise a task that logs faster than lines can be
#: written would fill the memory and hold its claim's lock for minutes. Further lines are dropped, and a line says how
#: many.
_MOST_LINES = 10_000
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Lines:
    """What one leg has logged, as ``(JSON, when)``."""

    leg: Leg
    lines: list[tuple[str, float]] = field(default_factory=list)
    #: How many lines were dropped because there were too many.
    dropped: int = 0

    def all(self) -> list[tuple[str, float]]:
        """The lines, and a line about those that were dropped."""
        if not self.dropped:
            return self.lines
        message = f"{self.dropped:,} log lines were dropped here: the task logs faster than they can be written"
        return [*self.lines, (to_json({"message": message, "dropped": self.dropped}), time.monotonic())]


@dataclass(slots=True)
class Pending:
    """What one flush writes."""

    ended: list[Leg] = field(default_factory=list)
    #: By task id: legs whose start is to be written before their end is.
    begun: dict[str, Leg] = field(default_factory=dict)
    #: By task id: the latest progress, as ``(leg, percent, status, when)``.
    progress: dict[str, tuple[Leg, float, str | None, float]] = field(default_factory=dict)
    #: By task id.
    logs: dict[str, Lines] = field(default_factory=dict)
    log_lines: int = 0
    log_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.ended or self.begun or self.progress or self.logs)

    def log(self, leg: Leg, data: str) -> None:
        """Add a line, or count it as dropped."""
        logged = self.logs.get(leg.task.id)
        if logged is None:
            logged = self.logs[leg.task.id] = Lines(leg)
        if self.log_lines >= _MOST_LINES or self.log_bytes + len(data) > _MOST_BYTES:
            logged.dropped += 1
            return
        logged.lines.append((data, time.monotonic()))
        self.log_lines += 1
        self.log_bytes += len(data)

    @property
    def has_reports(self) -> bool:
        """Whether there is anything besides starts and ends."""
        return bool(self.progress or self.logs)

    @property
    def task_ids(self) -> list[str]:
        """The ids of the tasks whose legs these are."""
        ended = (leg.task.id for leg in self.ended)
        return list(dict.fromkeys([*ended, *self.begun, *self.progress, *self.logs]))

    @property
    def claims(self) -> set[int]:
        """The numbers of the claims under which they run."""
        reports = (leg for leg, *_ in self.progress.values())
        logs = (lines.leg for lines in self.logs.values())
        return {leg.task.claim_no for leg in (*self.ended, *self.begun.values(), *reports, *logs)}

    def halves(self) -> list[Pending]:
        """The same content in two parts, with each leg in one of them; one part if there is only one leg."""
        ids = self.task_ids
        middle = (len(ids) + 1) // 2
        return [self._of(set(part)) for part in (ids[:middle], ids[middle:]) if part]

    def plainer(self, why: BaseException) -> Pending:
        """The same of one leg with less content: without its reports; or with its end as the failure ``why``; or
        nothing.
        """
        if self.has_reports:
            return Pending(ended=self.ended, begun=self.begun)
        if not self.ended:
            return Pending()
        [leg] = self.ended
        plain = replace(leg)
        plain.fail(why)
        return Pending(ended=[plain], begun=self.begun)

    def _of(self, ids: set[str]) -> Pending:
        return Pending(
            ended=[leg for leg in self.ended if leg.task.id in ids],
            begun={task_id: leg for task_id, leg in self.begun.items() if task_id in ids},
            progress={task_id: report for task_id, report in self.progress.items() if task_id in ids},
            logs={task_id: lines for task_id, lines in self.logs.items() if task_id in ids},
        )
