"""Handles a task that forks and whose child leaves the task's function. Only the process that has claimed a task may
record its end and claim the next one. So the child ends there, like a program that has reached its last line.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import NoReturn

from ledgerq_worker.slot import legs

#: Whether a task forked this process. To read this costs a task nothing.
happened = False
_is_watched = False


class _Mute:
    """Ignores what a forked child reports, because the recorder's locks and connections belong to its parent."""

    def progressed(self, leg: legs.Leg, percent: float, status: str | None) -> None:
        """Ignored: the task in the parent process reports."""

    def logged(self, leg: legs.Leg, data: str) -> None:
        """Ignored, too."""


def watch() -> None:
    """From now on, notice when tasks of this process fork."""
    global _is_watched  # noqa: PLW0603 - hooks of a fork cannot be taken back
    if not _is_watched:
        _is_watched = True
        os.register_at_fork(after_in_child=_note)


def leave() -> NoReturn:
    """End this process; the exception that is being raised is the reason. Nothing is cleaned up, because the parent
    still uses the locks, connections and open files.
    """
    code = 0
    with contextlib.suppress(BaseException):
        code = _exit_code(sys.exc_info()[1])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return (error.code or 0) & 0xFF
    traceback.print_exception(error)
    return 1


def _note() -> None:
    global happened  # noqa: PLW0603 - this is the process that was forked
    leg = legs.current()
    if leg is not None:
        happened = True
        leg.recorder = _Mute()
