"""What signals do in a process that runs tasks, and how this is restored after a task that changed it.

A supervisor may send its signals to a whole process group or control group, so pool processes, too, get signals that
are meant for the worker. The worker's parent decides what follows (no more claims, a grace period for running tasks).
So a pool process goes on with its task, and ends only when it has none.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog

from ledgerq_worker.slot import limits

log = structlog.get_logger()

Handler = Callable[[int, FrameType | None], Any] | int | None

#: Signals that end a process; the sender may mean the whole worker.
_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: Signals that a task may have caused, or that were meant for another program. None of them may kill a task's
#: neighbour.
_NOTHING = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
#: Signals whose handlers tasks change.
_WATCHED = tuple(map(int, (*_ENDS, *_NOTHING, signal.SIGINT, signal.SIGCHLD, limits.SIGNAL)))
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_TRIES = 5

#: The public function makes an enum of each answer, which costs twenty times as much.
_get: Callable[[int], Handler] = importlib.import_module("_signal").getsignal


class Composure:
    """Remembers the signal handlers of this process's main thread, and puts them back.

    It is asked after each task, so the answer "nothing has changed" has to be cheap.
    """

    def __init__(self) -> None:
        limits.install_handler()
        self._handlers = [*map(_get, _WATCHED)]

    def regain(self) -> None:
        """Turn alarms off and put handlers back, so that nothing that a task has armed hits another task."""
        if [*map(_get, _WATCHED)] == self._handlers:
            return
        for _ in range(_TRIES):
            try:
                self._restore()
            except BaseException as error:  # from a handler of the task, just before it is removed
                log.warning("worker.signals.late", error=type(error).__name__)
            else:
                return

    def _restore(self) -> None:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        for number, handler in zip(_WATCHED, self._handlers, strict=True):
            if handler is not None and _get(number) != handler:
                signal.signal(number, handler)


class PoolSignals:
    """The signals of a pool process."""

    def __init__(self) -> None:
        self._is_busy = False
        self._is_asked = False
        self._before: dict[int, Handler] = {}

    def take_over(self) -> None:
        """To be called after the pool has installed its own handlers."""
        for number in _ENDS:
            self._before[number] = _get(number)
            signal.signal(number, self._end)
        signal.signal(
            signal.SIGUSR1, _do_nothing
        )  # Celery uses it for soft limits of its own, which are not those of a task
        ignore_strays()
        default_in_children(self._end)

    def begin(self) -> None:
        """Note that a drain begins: from now on a signal ends this process only at the end of the drain."""
        self._is_busy = True

    def end(self, *, is_stopping: bool) -> None:
        """Note that the drain is over. A node that is stopping ends its processes by itself."""
        self._is_busy = False
        if self._is_asked and not is_stopping:
            self._end(signal.SIGTERM, None)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._is_busy:
            self._is_asked = True
        elif callable(before := self._before.get(number)):
            before(number, frame)  # Celery's handler: it raises an exception, so that held tasks are given back


def default_in_children(*handlers: Handler) -> None:
    """In a process that is forked from this one, restore the default effect of signals that have one of these handlers
    or do nothing here. Signals that end a process are blocked until then, because Python forgets a signal that arrives
    in between.
    """
    masks = threading.local()

    def hold() -> None:
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def let_go() -> None:
        for number in _WATCHED:
            if _get(number) in (*handlers, _do_nothing):
                signal.signal(number, signal.SIG_DFL)
        go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=let_go)


def ignore_strays() -> None:
    """Let alarms and users' signals without a handler in this process do nothing. (``SIG_IGN`` would not do: programs
    that tasks start would inherit it.)
    """
    for number in _NOTHING:
        if _get(number) == signal.SIG_DFL:
            signal.signal(number, _do_nothing)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


pool_signals = PoolSignals()
