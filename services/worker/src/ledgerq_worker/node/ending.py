"""How a worker node ends: by which signals, and how long its tasks may go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from types import FrameType
from typing import Any

import structlog

from ledgerq_shared.process.timers import later
from ledgerq_worker.node.node import Node
from ledgerq_worker.slot.composure import default_in_children, ignore_strays

log = structlog.get_logger()

#: Seconds between two checks whether a node that has to end still runs a task.
_LOOK_AT_SLOTS_EVERY = 0.5


class Ending:
    """How the node ends. After SIGTERM, SIGINT or SIGHUP it claims nothing more, and running tasks have some time to
    end. After a second such signal, at the end of that time, or after SIGQUIT it ends at once. Tasks that are cut off
    run again, uncharged.
    """

    def __init__(self, node: Node, grace: float) -> None:
        self._node = node
        self._grace = grace
        self._lock = threading.Lock()
        self._original: Any = None
        self._received: set[int] = set()
        # When our handler is installed, Celery has already replaced the original one.
        self._is_hangup_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        #: Of this process, if Celery's own worker does not say otherwise.
        self.exit_code = 0

    def give_up_node(self) -> None:
        """End the node, as a failure, when the running tasks have ended, so that none of them is harmed. Meanwhile
        nothing more is claimed.
        """
        if not self.exit_code:
            self.exit_code = 1
            self._node.stopping()
            threading.Thread(target=self._end_when_idle, name="ending", daemon=True).start()

    def _end_when_idle(self) -> None:
        while self._node.table.has_busy_slot:
            time.sleep(_LOOK_AT_SLOTS_EVERY)
        # The loop that would handle a signal may be gone.
        self._end_now("it hears nothing and nothing runs any more")

    def take_over_signals(self, **_: Any) -> None:
        """Install our signal handlers. Celery ignores a second SIGTERM, so its handler is called through ours. Celery's
        SIGHUP would start the program anew without its supervisor; its SIGQUIT (and second SIGINT) would end tasks as
        failures.
        """
        self._original = signal.getsignal(signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if self._is_hangup_ignored else self._end)
        signal.signal(signal.SIGQUIT, self._quit)
        ignore_strays()
        # A process that a task forks (on a pool of threads, or solo) must not end the node.
        default_in_children(self._end, self._quit)

    def _end(self, received: int, frame: FrameType | None) -> None:
        if received in self._received:
            self._end_now("a second signal")
        is_first = not self._received
        self._received.add(received)
        if not is_first:
            return  # another signal for the same end, because supervisors send several
        self._node.stopping()
        later(self._grace, partial(self._end_now, "the grace period is over"))
        if callable(self._original):
            self._original(received, frame)

    def _quit(self, received: int, frame: FrameType | None) -> None:
        self._end_now("SIGQUIT")

    def _end_now(self, why: str) -> None:
        if not self._lock.acquire(blocking=False):
            return  # the end has begun; a third signal must not wait for the handler that it interrupted
        log.warning("worker.ending_now", why=why)
        self._node.abandon()
        os._exit(self.exit_code)
