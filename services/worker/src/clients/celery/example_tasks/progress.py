"""What the work of a task needs from the task: a place to report to and to ask whether to go on."""

from typing import Protocol


class Reporter(Protocol):
    """The part of `DatabaseAwareTask` that the work uses, so that it can be tested without a queue."""

    def update_progress(self, progress: float, status: str | None = None, /) -> None:
        """Report how much is done, from 0 to 100."""

    def raise_if_cancelled(self) -> None:
        """Stop here if somebody cancelled the task."""


def step(reporter: Reporter, done: int, total: int, what: str) -> None:
    """Report that `done` of `total` pieces are finished, unless the task was cancelled."""
    reporter.raise_if_cancelled()
    reporter.update_progress(round(100 * done / max(total, 1), 1), what)
