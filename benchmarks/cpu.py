"""CPU seconds by kind of process: steadier than wall time on a machine that others use too."""

from __future__ import annotations

from collections.abc import Mapping

import psutil

Spent = dict[str, float]


def spent(roots: Mapping[str, int]) -> Spent:
    """CPU seconds, user and system, of each process tree so far. Children that have ended count where they were reaped.

    Args:
        roots: name -> pid.
    """
    return {name: _tree(pid) for name, pid in roots.items()}


def per_task(before: Spent, after: Spent, tasks: int) -> dict[str, float]:
    """Microseconds a task."""
    return {name: round((after[name] - before[name]) / tasks * 1e6, 1) for name in after}


def _tree(pid: int) -> float:
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_one(process) for process in processes)


def _one(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
