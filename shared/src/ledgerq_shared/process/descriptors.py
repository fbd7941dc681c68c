"""Which file or socket a descriptor stands for.

A task may close descriptors that are not its own (`os.closerange`, a library that makes a daemon), or put something
else in their place. The number then belongs to another file: we must neither write to it nor close it.
"""

from __future__ import annotations

import os

Identity = tuple[int, int]


def identity(handle: int) -> Identity | None:
    """What a descriptor stands for; None: it is closed. No two open files have the same identity."""
    try:
        status = os.fstat(handle)
    except OSError:
        return None
    return status.st_dev, status.st_ino
