"""Starts a program while other threads may fork.

`subprocess.Popen` learns from the closing of a pipe whether its program could be started. If Celery forks a pool
process at just that moment, that process keeps the pipe's other end open for as long as it lives, and Popen would wait
for as long. Then a lease agent that replaces a dead one would not get its configuration, and a living node would be
declared dead.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence

_forking = threading.Lock()
os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forking.release)


def spawn(command: Sequence[str], inherit: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start ``command`` with a pipe to its standard input, while no other thread forks.

    Args:
        inherit: descriptors that the program inherits, under the same numbers.

    Raises:
        OSError: the program cannot be started.
    """
    with _forking:  # Popen's own fork runs no fork hooks, because it goes straight on to exec
        return subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, close_fds=True, pass_fds=inherit)
