"""A worker node's processes by pid, and what can be done to them."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import psutil

from tests.support import wait

if TYPE_CHECKING:
    from tests.support.stack import Running


def agent_of(worker: Running) -> int:
    """The pid of the node's lease agent, once it has one."""
    return wait.until(lambda: _agents(worker), 30, what=lambda: f"an agent; {worker.log()}")[0]


def pool_of(worker: Running) -> list[int]:
    """The pids of the pool's processes: empty for threads and solo."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(worker.pid).children() if not _is_agent(child)]
    return []


def all_of(worker: Running) -> list[int]:
    """Parent, agent and pool."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [worker.pid, *(child.pid for child in psutil.Process(worker.pid).children(recursive=True))]
    return []


def kill(*pids: int) -> None:
    """SIGKILL, the first one first; what has ended is no error."""
    for pid in pids:
        send(pid, signal.SIGKILL)


def send(pid: int, number: int) -> None:
    """Send a signal; what has ended is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def freeze(worker: Running) -> list[int]:
    """SIGSTOP the whole node, parent first; returns the pids, for :func:`thaw`."""
    pids = all_of(worker)
    for pid in pids:
        send(pid, signal.SIGSTOP)
    return pids


def thaw(pids: list[int]) -> None:
    """SIGCONT, in the same order."""
    for pid in pids:
        send(pid, signal.SIGCONT)


def is_alive(pid: int) -> bool:
    """True until it has ended; a zombie has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _agents(worker: Running) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(worker.pid).children() if _is_agent(child)]
    return []


def _is_agent(process: psutil.Process) -> bool:
    try:
        return "ledgerq_worker.node.agent" in process.cmdline()
    except psutil.Error:
        return False


def leader_of(standing: list[Running]) -> Running | None:
    """The maintenance process that said last that it leads."""
    leading = [
        one for one in standing if one.log().rfind("maintenance.leads") > one.log().rfind("maintenance.stands_by")
    ]
    return leading[0] if leading else None
