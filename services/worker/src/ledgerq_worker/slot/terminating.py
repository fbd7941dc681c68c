"""Ends a running task as a signal of Celery's ``terminate`` does: ``SystemExit`` is raised in its code, so that its
``finally`` blocks run. Its process goes on with the next task.

The node's agent sends a signal of its own to the task's process: SIGTERM may be meant for the whole worker.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import CodeType, FrameType

from ledgerq_shared.process.once import OncePerProcess
from ledgerq_worker.slot import limits
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.termination import SIGNAL


class Terminated(SystemExit):
    """Raised in the code of a task that is terminated."""


#: The code that calls a task's body: whatever it calls is the task's.
callers: set[CodeType] = set()

_running: Callable[[], Leg | None] = lambda: None  # noqa: E731
#: The leg that was struck last.
_struck: Leg | None = None


def listen(running: Callable[[], Leg | None]) -> None:
    """Let tasks be terminated in this process's main thread, which has to be the caller.

    Args:
        running: returns the leg whose code is running.
    """
    global _running  # noqa: PLW0603 - there is one main thread
    _running = running
    _handler()


def was_struck(leg: Leg) -> bool:
    """Whether this leg was terminated by a signal."""
    return _struck is leg


def _strike(number: int, frame: FrameType | None) -> None:
    """Raise in the task's code, once, if it is the task that the agent means; a signal may come too late.

    Raises:
        Terminated
    """
    global _struck  # noqa: PLW0603 - one leg at a time
    leg = _running()
    if leg is None or leg is _struck or not leg.is_cancelled or not _is_tasks(frame):
        return
    _struck = leg
    own = signal.getsignal(signal.SIGTERM)
    if own is _handler():
        raise Terminated("terminated by remote control")
    if callable(own):  # the task has a handler of its own
        own(signal.SIGTERM, frame)


def _is_tasks(frame: FrameType | None) -> bool:
    """Whether a frame is of a task's code, or of what that has called."""
    inner = frame
    while inner is not None and inner.f_back is not None:
        if inner.f_back.f_code in callers:
            return inner.f_code.co_filename != limits.__file__ and inner.f_code not in callers
        inner = inner.f_back
    return False


def _install() -> object:
    signal.signal(SIGNAL, _strike)
    return signal.getsignal(signal.SIGTERM)


#: Installs the handler; returns what SIGTERM does between tasks.
_handler = OncePerProcess(_install)
