"""What signals do in a process that runs tasks, and how it comes to itself again after a task that changed that.

A supervisor may send its signals to a whole process group or control group: pool processes, too, get what is meant for the
worker. The worker's parent decides what follows (no more claims, a while for what runs), so a pool process goes on with
its task, and ends only when it has none.
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

#: What ends a process; who sends it may mean the worker.
_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: What a task may have set off, or somebody sent who meant another program. None of it is to kill a task's neighbour.
_NOTHING = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
#: Those whose handlers tasks change.
_WATCHED = tuple(map(int, (*_ENDS, *_NOTHING, signal.SIGINT, signal.SIGCHLD, limits.SIGNAL)))
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_TRIES = 5

#: The public function makes an enum of each answer, at twenty times the price.
_get: Callable[[int], Handler] = importlib.import_module("_signal").getsignal


class Composure:
    """Remembers the signal handlers of this process's main thread, and puts them back.

    Asked after each task, so that the answer "nothing has changed" is cheap.
    """

    def __init__(self) -> None:
        limits.install_handler()
        self._handlers = [*map(_get, _WATCHED)]

    def regain(self) -> None:
        """Alarms are off and handlers are as they were. What a task has armed hits no other."""
        if [*map(_get, _WATCHED)] == self._handlers:
            return
        for _ in range(_TRIES):
            try:
                self._restore()
            except BaseException as error:  # a handler of the task's, with its last breath
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
        """To be called once the pool has made its own arrangements."""
        for number in _ENDS:
            self._before[number] = _get(number)
            signal.signal(number, self._end)
        signal.signal(signal.SIGUSR1, _do_nothing)  # Celery's soft limits, which are not those of a task
        ignore_strays()
        default_in_children(self._end)

    def begin(self) -> None:
        """A drain begins: from now on nothing ends this process but the end of the drain."""
        self._is_busy = True

    def end(self, *, is_stopping: bool) -> None:
        """The drain is over. A node that is stopping ends its processes by itself."""
        self._is_busy = False
        if self._is_asked and not is_stopping:
            self._end(signal.SIGTERM, None)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._is_busy:
            self._is_asked = True
        elif callable(before := self._before.get(number)):
            before(number, frame)  # Celery's: by an exception, so that what it holds is given back


def default_in_children(*handlers: Handler) -> None:
    """In a process that is forked from this one, signals that have one of these handlers, or that do nothing here, do what
    they do in every program. Those that end a process wait until then: Python forgets what comes in between.
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
    """Alarms and users' signals for which nobody in this process has a handler do nothing. (Not by ``SIG_IGN``: programs
    that tasks start would inherit that.)
    """
    for number in _NOTHING:
        if _get(number) == signal.SIG_DFL:
            signal.signal(number, _do_nothing)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


pool_signals = PoolSignals()
