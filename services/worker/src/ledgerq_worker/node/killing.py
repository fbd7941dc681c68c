"""Processes of the pool: whether they live, and how to end them, alone or with the programs that their tasks
started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import psutil

from ledgerq_worker.slot import termination

#: States of a process that has ended; a zombie has ended, whether or not its parent has noticed.
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
#: Seconds after which a killed process has ended, and a stopped one stands still, unless the system is stuck.
_WITHIN = 5.0
_LOOK_AT_PROCESS_EVERY = 0.002


def is_alive(pid: int) -> bool:
    """Whether a process runs, or is stopped."""
    return _status(pid) not in (*ENDED, None)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped a process. (A process that a debugger holds is in another state.)"""
    return _status(pid) == psutil.STATUS_STOPPED


def kill_if_alive(pid: int, *, with_programs: bool) -> None:
    """Send SIGKILL, and wait for the end.

    Args:
        with_programs: also end the programs that it has started and the rest of its process group. A program that has
            made itself a daemon (it is in a session of its own and its starter is gone) goes on.
    """
    programs = _started_by(pid) if with_programs else []
    if with_programs and _leads_group(pid):
        _kill_group(pid)
    for number in (pid, *programs):
        _send(number, signal.SIGKILL)
    _until(lambda: not any(map(is_alive, (pid, *programs))))


def kill_if(pid: int, is_wanted: Callable[[], bool], *, with_programs: bool) -> bool:
    """Stop a process, ask ``is_wanted``, and kill the process if the answer is yes. Because it stands still, it cannot
    go on to something else between the question and the kill. Returns whether it was killed.
    """
    _send(pid, signal.SIGSTOP)
    _until(lambda: _status(pid) in (psutil.STATUS_STOPPED, *ENDED, None))
    if is_wanted():
        kill_if_alive(pid, with_programs=with_programs)
        return True
    _send(pid, signal.SIGCONT)
    return False


def kill_remains(pid: int, *, parent: int) -> None:
    """Send SIGKILL to the programs that a dead process of ``parent`` has left in the process group that it led. If a
    living process has its number, that process and its group belong to somebody else.
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


def ask(pid: int) -> None:
    """Ask the task in a pool process to end; nothing happens if it has ended."""
    _send(pid, termination.SIGNAL)


def resume(pid: int) -> None:
    """Resume a process that was left stopped."""
    _send(pid, signal.SIGCONT)


def _started_by(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have started; each is stopped, so that no further
    one is added.
    """
    found: list[int] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while new := [child.pid for child in process.children(recursive=True) if child.pid not in found]:
            for number in new:
                _send(number, signal.SIGSTOP)
            found += new
    return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _status(pid: int) -> str | None:
    """The state of a process; None: there is no such process."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return None


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WITHIN
    while not condition() and time.monotonic() < deadline:
        time.sleep(_LOOK_AT_PROCESS_EVERY)
