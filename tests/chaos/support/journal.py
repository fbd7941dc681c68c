"""What the tasks wrote down themselves: the truth about executions, apart from the ledger."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.lines import whole_lines

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Run:
    """One execution of a task's code. Times are of the monotonic clock, in seconds."""

    task_id: str
    pid: int
    began_at: float
    #: None: it has not ended, or its process died.
    ended_at: float | None = None


class Journal:
    """Reads ``journal.jsonl`` of the folder in which the workers run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.jsonl"

    def runs(self) -> dict[str, list[Run]]:
        """All executions by task id, in the order in which they began."""
        found: dict[str, list[Run]] = defaultdict(list)
        text = self._path.read_text() if self._path.exists() else ""
        for line in whole_lines(text):
            note = json.loads(line)
            runs = found[note["task"]]
            if note["what"] == "begin":
                runs.append(Run(note["task"], note["pid"], note["at"]))
            else:
                # Latest first: a process runs one task at a time, but may run the same one again.
                next(run for run in reversed(runs) if run.pid == note["pid"]).ended_at = note["at"]
        return found

    def of(self, task_id: str) -> list[Run]:
        """The executions of one task."""
        return self.runs().get(task_id, [])

    def running(self) -> list[Run]:
        """Executions that have begun and not ended; some of them may be dead."""
        return [run for runs in self.runs().values() for run in runs if run.ended_at is None]

    def overlaps(self) -> list[tuple[Run, Run]]:
        """Executions of one task that began while an earlier one was running, and went on to its end."""
        return [
            (earlier, later)
            for runs in self.runs().values()
            for number, later in enumerate(runs)
            for earlier in runs[:number]
            if earlier.ended_at is not None and later.began_at < earlier.ended_at
        ]
