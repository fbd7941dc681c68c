"""A task may fork, and the child come out of the task's function. Only the process that has claimed a task records its
end and claims the next one, so the child ends there, as a program ends that has come to its last line.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import NoReturn

from ledgerq_worker.slot import legs

#: Whether this process was forked by a task. The question costs a task nothing.
happened = False
_is_watched = False


class _Mute:
    """Hears what a forked child reports. The recorder's locks and connections are its parent's."""

    def progressed(self, leg: legs.Leg, percent: float, status: str | None) -> None:
        """The parent's task reports for both."""

    def logged(self, leg: legs.Leg, data: str) -> None:
        """Likewise."""


def watch() -> None:
    """Know from now on whether tasks of this process fork."""
    global _is_watched  # noqa: PLW0603 - hooks of a fork cannot be taken back
    if not _is_watched:
        _is_watched = True
        os.register_at_fork(after_in_child=_note)


def leave() -> NoReturn:
    """End this process, with what is being raised at the moment as its reason, and none of the parent's clean-up: locks,
    connections and files that are not closed are still in use there.
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
    global happened  # noqa: PLW0603 - it is the process that was forked
    leg = legs.current()
    if leg is not None:
        happened = True
        leg.recorder = _Mute()
