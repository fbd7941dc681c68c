"""Processes of the pool: whether they live, and how they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import psutil

#: Process states that are no life any more; a zombie has ended, whether or not its parent has taken note of it.
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
#: A killed process has ended, and a stopped one stands still, after this long, in seconds, unless the system is stuck.
_WITHIN = 5.0
_LOOK_EVERY = 0.002


def is_alive(pid: int) -> bool:
    """Whether a process runs, or is stopped."""
    return _status(pid) not in (*ENDED, None)


def kill_if_alive(pid: int) -> None:
    """SIGKILL, and wait for the end."""
    _send(pid, signal.SIGKILL)
    _until(lambda: not is_alive(pid))


def kill_if(pid: int, is_wanted: Callable[[], bool]) -> bool:
    """Kill a process if ``is_wanted`` says so while it stands still, so that it cannot go on to something else between
    the question and the kill. Returns whether it was killed.
    """
    _send(pid, signal.SIGSTOP)
    _until(lambda: _status(pid) in (psutil.STATUS_STOPPED, *ENDED, None))
    if is_wanted():
        kill_if_alive(pid)
        return True
    _send(pid, signal.SIGCONT)
    return False


def resume(pid: int) -> None:
    """Let a process go on that was left standing still."""
    _send(pid, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _status(pid: int) -> str | None:
    """Null: there is no such process."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return None


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WITHIN
    while not condition() and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)
