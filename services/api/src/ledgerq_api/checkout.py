"""Where a checkout of LedgerQ is, if this code runs in one."""

from __future__ import annotations

from pathlib import Path


def above(file: str, folders: int) -> Path:
    """The folder that is ``folders`` above the one of ``file``: the root of the disk where there are not so many.

    The packages of a service may lie anywhere, also just below the root: in a container, or after ``pip --target``.
    """
    parents = Path(file).resolve().parents
    return parents[min(folders, len(parents) - 1)]
