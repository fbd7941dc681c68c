"""The worker's parent process, for its lease agent."""

from __future__ import annotations

import contextlib
import time

import psutil
import structlog

from ledgerq_worker.node.killing import ENDED

log = structlog.get_logger()

#: Seconds within which a parent has ended after its pipe was closed, and seconds between two looks at it.
_ENDS_WITHIN = 1.0
_LOOK_EVERY = 0.02


class Parent:
    """The parent of one agent.

    Args:
        pid: its process number; the process is alive when the agent begins.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.pid = pid

    def is_gone(self) -> bool:
        """Whether the parent has ended."""
        try:
            return not self._process.is_running() or self._process.status() in ENDED
        except psutil.NoSuchProcess:
            return True

    def is_stopped(self) -> bool:
        """Whether a signal has stopped the parent, or it has ended."""
        try:
            return bool(self._process.status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return True

    def is_at_work(self) -> bool:
        """Whether the parent lives and is not stopped."""
        return not (self.is_gone() or self.is_stopped())

    def has_child(self, pid: int) -> bool:
        """Whether a pool process lives. While the parent lives, a process with another parent has only got the number
        of a dead pool process.
        """
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                is_alive = process.status() not in ENDED
                return is_alive and (process.ppid() == self.pid or self.is_gone())
        except psutil.NoSuchProcess:
            return False

    def kill(self) -> None:
        """Send SIGKILL to the parent."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()

    def make_sure_of_its_end(self) -> None:
        """Wait for the parent's end, and kill it if it goes on: its pipe closes a moment before its end, or a task in
        the same process has closed the pipe. The node's tasks are about to run again elsewhere, so the node must not go
        on.
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
