"""Processes of the pool: whether they live, and how they are ended, alone or with the programs that their tasks started."""

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
_LOOK_AT_PROCESS_EVERY = 0.002


def is_alive(pid: int) -> bool:
    """Whether a process runs, or is stopped."""
    return _status(pid) not in (*ENDED, None)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped a process. (One that a debugger holds is in another state.)"""
    return _status(pid) == psutil.STATUS_STOPPED


def kill_if_alive(pid: int, *, with_programs: bool) -> None:
    """SIGKILL, and wait for the end.

    Args:
        with_programs: end, too, what it has started and what is left of its process group. A program that has made
            itself a daemon (in a session of its own, its starter gone) goes on.
    """
    programs = _started_by(pid) if with_programs else []
    if with_programs and _leads_group(pid):
        _kill_group(pid)
    for number in (pid, *programs):
        _send(number, signal.SIGKILL)
    _until(lambda: not any(map(is_alive, (pid, *programs))))


def kill_if(pid: int, is_wanted: Callable[[], bool], *, with_programs: bool) -> bool:
    """Kill a process if ``is_wanted`` says so while it stands still, so that it cannot go on to something else between
    the question and the kill. Returns whether it was killed.
    """
    _send(pid, signal.SIGSTOP)
    _until(lambda: _status(pid) in (psutil.STATUS_STOPPED, *ENDED, None))
    if is_wanted():
        kill_if_alive(pid, with_programs=with_programs)
        return True
    _send(pid, signal.SIGCONT)
    return False


def kill_remains(pid: int, *, parent: int) -> None:
    """SIGKILL to what a dead process of ``parent`` has left behind in the process group that it led. A living process with
    its number is somebody else's, and so is its group.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() not in ENDED or process.ppid() != parent:
            return
    # While a group has members, the kernel gives its number to no other process.
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    if pid > 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _leads_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def resume(pid: int) -> None:
    """Let a process go on that was left standing still."""
    _send(pid, signal.SIGCONT)


def _started_by(pid: int) -> list[int]:
    """What a process has started and what that has started, each made to stand still, so that nothing is added."""
    found: list[int] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while new := [child.pid for child in process.children(recursive=True) if child.pid not in found]:
            for number in new:
                _send(number, signal.SIGSTOP)
            found += new
    return found


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
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
        time.sleep(_LOOK_AT_PROCESS_EVERY)
