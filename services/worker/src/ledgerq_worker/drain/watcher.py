"""A slot's second thread: while a task runs for long, it writes STARTED, progress and log lines, and hands back the
other tasks of the claim.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import structlog

from ledgerq_worker.drain.hand import Hand
from ledgerq_worker.drain.recorder import Recorder
from ledgerq_worker.drain.runner import Runner

log = structlog.get_logger()

#: Seconds between two looks while a drain runs.
_LOOK_AT_LEG_EVERY = 0.02
#: Seconds after which a running task gets a STARTED row of its own.
_STARTED_AFTER = 0.03
#: Seconds after which a running task keeps no other task of its claim waiting.
_HAND_BACK_AFTER = 0.1


class Watcher:
    """Watches one slot. Use it as a context manager around a drain; outside of a drain its thread sleeps.

    Args:
        runner: knows which leg the slot runs now.
        recorder: the slot's recorder.
        hand: the tasks that the slot has claimed and not begun.
        progress_interval: the shortest time between two writes of progress, in seconds.
    """

    def __init__(self, runner: Runner, recorder: Recorder, hand: Hand, *, progress_interval: float) -> None:
        self._runner = runner
        self._recorder = recorder
        self._hand = hand
        self._progress_interval = progress_interval
        self._flushed_at = 0.0
        self._is_draining = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="slot-watcher", daemon=True)
            self._thread.start()
        self._is_draining.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_draining.clear()

    def _watch(self) -> None:
        while True:
            self._is_draining.wait()
            time.sleep(_LOOK_AT_LEG_EVERY)
            try:
                self._look()
            except Exception:
                log.exception("worker.watcher.failed")

    def _look(self) -> None:
        leg = self._runner.running
        if leg is None or leg.begun_ago < _STARTED_AFTER:
            return  # quick tasks are recorded together, at the end of their claim
        self._recorder.begun(leg)
        if leg.begun_ago > _HAND_BACK_AFTER:
            self._hand.hand_back()
        now = time.monotonic()
        is_due = now - self._flushed_at >= self._progress_interval
        if self._recorder.has_pending and (is_due or self._recorder.has_more_than_progress):
            self._flushed_at = now
            self._recorder.flush()
