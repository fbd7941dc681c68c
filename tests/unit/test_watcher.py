"""A slot's watcher: a task that takes long is shown, and keeps nothing of its claim waiting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ledgerq_worker.drain.watcher import Watcher


class _Reports:
    """Stands for the recorder."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.flushes = 0
        self.has_more_than_progress = False

    def begun(self, leg: Any) -> None:
        self.seen.append(leg)
        self.has_more_than_progress = True

    @property
    def has_pending(self) -> bool:
        return self.has_more_than_progress

    def flush(self) -> None:
        self.flushes += 1


@pytest.mark.parametrize(
    ("seconds", "is_shown", "keeps_waiting"),
    [(None, False, True), (0.001, False, True), (0.05, True, True), (0.2, True, False)],
)
def test_a_task_that_takes_long_is_shown_and_keeps_nothing_of_its_claim_waiting(
    seconds: float | None, is_shown: bool, keeps_waiting: bool
):
    leg = None if seconds is None else SimpleNamespace(begun_ago=seconds)
    reports, handed_back = _Reports(), []
    runner: Any = SimpleNamespace(running=leg)
    hand: Any = SimpleNamespace(hand_back=lambda: handed_back.append(1))
    watcher = Watcher(runner, reports, hand, progress_interval=1.0)  # type: ignore[arg-type]
    watcher._look()
    assert (reports.seen == [leg], reports.flushes) == (is_shown, is_shown)
    assert (handed_back == []) is keeps_waiting
