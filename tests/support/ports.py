"""Ports for what tests start: none is given twice in a run, for a server may bind its port long after."""

from __future__ import annotations

import os
import random

from ledgerq_shared.embedded.ports import is_free

# Below what the product's embedded servers choose from.
_FIRST, _LAST = 11000, 20000


def _all() -> list[int]:
    """Those of this process of pytest-xdist, in any order."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = (_LAST - _FIRST) // processes
    ports = list(range(_FIRST + own * share, _FIRST + (own + 1) * share))
    random.shuffle(ports)
    return ports


_left = _all()


def free_port() -> int:
    """A port of 127.0.0.1 that is free, and that no other test is given."""
    while True:
        port = _left.pop()
        if is_free(port):
            return port
