"""What the legs of one slot have to tell the ledger, until a flush has told it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledgerq_worker.drain.legs import Leg


@dataclass(slots=True)
class Pending:
    """What one flush writes."""

    ended: list[Leg] = field(default_factory=list)
    #: By task id: legs whose start is to be written before their end is.
    begun: dict[str, Leg] = field(default_factory=dict)
    #: By task id: the latest progress, as ``(leg, percent, status, when)``.
    progress: dict[str, tuple[Leg, float, str | None, float]] = field(default_factory=dict)
    logs: list[tuple[Leg, str, float]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ended or self.begun or self.progress or self.logs)

    @property
    def has_reports(self) -> bool:
        """Whether there is more than starts and ends."""
        return bool(self.progress or self.logs)

    @property
    def task_ids(self) -> list[str]:
        """Whose legs these are."""
        ended, logged = (leg.task.id for leg in self.ended), (leg.task.id for leg, _, _ in self.logs)
        return list(dict.fromkeys([*ended, *self.begun, *self.progress, *logged]))

    def halves(self) -> list[Pending]:
        """The same in two parts, each leg's in one of them; in one part if it is all one leg's."""
        ids = self.task_ids
        middle = (len(ids) + 1) // 2
        return [self._of(set(part)) for part in (ids[:middle], ids[middle:]) if part]

    def without_reports(self) -> Pending:
        """The starts and ends alone."""
        return Pending(ended=self.ended, begun=self.begun)

    def _of(self, ids: set[str]) -> Pending:
        return Pending(
            ended=[leg for leg in self.ended if leg.task.id in ids],
            begun={task_id: leg for task_id, leg in self.begun.items() if task_id in ids},
            progress={task_id: report for task_id, report in self.progress.items() if task_id in ids},
            logs=[line for line in self.logs if line[0].task.id in ids],
        )
