"""The pipes between a pool process and its parent. Without them the process gets no tickets: it ends, and another
process replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import structlog

from ledgerq_shared.process.descriptors import Identity, identity

log = structlog.get_logger()

_EXIT_CODE = 70  # EX_SOFTWARE


class Pipes:
    """The descriptors over which a pool process talks with its parent."""

    def __init__(self) -> None:
        self._own: dict[int, Identity | None] = {}

    def remember(self, handles: Iterable[int]) -> None:
        """Note that these descriptors are open and belong to the process."""
        self._own = {handle: identity(handle) for handle in handles}

    @property
    def are_lost(self) -> bool:
        """Whether a task has closed one of them, or has put something else in its place."""
        return any(identity(handle) != own for handle, own in self._own.items())

    def leave_if_lost(self) -> None:
        """End this process if its pipes are lost; what it did is recorded. Nothing is written to a file that is not
        ours.
        """
        if self.are_lost:
            log.error(
                "worker.process.unfit",
                pid=os.getpid(),
                what="a task closed or replaced descriptors of its process: the process ends, another takes its place",
            )
            os._exit(_EXIT_CODE)


pool_pipes = Pipes()
