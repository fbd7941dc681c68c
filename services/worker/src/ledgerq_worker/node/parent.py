"""The worker's parent process, as its lease agent sees it."""

from __future__ import annotations

import contextlib
import time

import psutil
import structlog

from ledgerq_worker.node.killing import ENDED

log = structlog.get_logger()

#: A parent whose pipe is closed has ended after this long, in seconds, and is looked at so often.
_ENDS_WITHIN = 1.0
_LOOK_EVERY = 0.02


class Parent:
    """One parent.

    Args:
        pid: its process; alive when the agent begins.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.pid = pid

    def is_gone(self) -> bool:
        """Whether it has ended."""
        try:
            return not self._process.is_running() or self._process.status() in ENDED
        except psutil.NoSuchProcess:
            return True

    def is_stopped(self) -> bool:
        """Whether a signal has stopped it, or it has ended."""
        try:
            return bool(self._process.status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return True

    def is_at_work(self) -> bool:
        """Whether it lives and is not stopped."""
        return not (self.is_gone() or self.is_stopped())

    def has_child(self, pid: int) -> bool:
        """Whether a pool process lives. While the parent lives, one with another parent was given a dead one's number."""
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                is_alive = process.status() not in ENDED
                return is_alive and (process.ppid() == self.pid or self.is_gone())
        except psutil.NoSuchProcess:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()

    def make_sure_of_its_end(self) -> None:
        """Its pipe closes a moment before its end; or a task that runs in the same process has closed it. What the node ran
        is about to run again, elsewhere, so the node must not go on.
        """
        deadline = time.monotonic() + _ENDS_WITHIN
        while not self.is_gone():
            if time.monotonic() > deadline:
                log.error("worker.parent_unfit", what="a task closed descriptors of its node: the node is killed")
                self.kill()
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._process.wait(_ENDS_WITHIN)
                return
            time.sleep(_LOOK_EVERY)
