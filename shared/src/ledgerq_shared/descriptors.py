"""Which file or socket a descriptor stands for.

A task may close descriptors that are not its own (`os.closerange`, a library that makes a daemon), or put something else in
their place. The number then is somebody else's: nothing of ours may be written to it, and it is not ours to close.
"""

from __future__ import annotations

import os

Identity = tuple[int, int]


def identity(handle: int) -> Identity | None:
    """What a descriptor stands for; null: nothing, it is closed. No two that are open have the same."""
    try:
        status = os.fstat(handle)
    except OSError:
        return None
    return status.st_dev, status.st_ino
