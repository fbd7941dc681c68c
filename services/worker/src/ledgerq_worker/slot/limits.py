"""Time limits of the running task, not of the drain that contains it.

The soft limit raises :class:`~celery.exceptions.SoftTimeLimitExceeded` inside the task, once. If the task runs in its
process's main thread, a signal that nothing else uses does this; in a pool thread, an asynchronous exception does. The
task's own alarms and handlers do not affect it. The hard limit is a deadline in the slot table, at which the lease
agent kills the process. Threads cannot be killed, so they have no hard limit.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import EncodeError

from ledgerq_shared.process.once import OncePerProcess

#: Wakes the main thread when its limit is reached. It is a real-time signal, because no library uses those; macOS has
#: none.
SIGNAL: int = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR1


class StruckWhileEncoding(SoftTimeLimitExceeded, EncodeError):
    """The soft limit was reached while the result was being encoded; Celery's tracer handles only encoding errors
    there.
    """


class SoftLimit:
    """The soft limit of one leg. It strikes only inside of ``with limit``, that is around the user's code. Outside of
    it, an exception could hit Celery's tracer or our own code halfway. Such regions may be nested.

    Args:
        seconds: the limit, counted from now.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.has_struck = False
        self._regions = 0
        self._lock = threading.Lock()
        is_main = threading.current_thread() is threading.main_thread()
        self._thread = threading.get_ident()
        self.strike = self._strike_main_thread if is_main else self._strike_pool_thread
        if is_main:
            install_handler()

    def start(self) -> None:
        """Start the time. Call :meth:`stop` in the same thread at the end."""
        global _of_main_thread  # noqa: PLW0603 - there is one main thread
        if self.strike == self._strike_main_thread:
            _of_main_thread = self
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {SIGNAL})  # a task before this one may have blocked everything
        _clock().add(self)

    def stop(self) -> None:
        """Stop the limit: it does not strike any more."""
        global _of_main_thread  # noqa: PLW0603
        if _of_main_thread is self:
            _of_main_thread = None
        _clock().discard(self)

    def __enter__(self) -> Self:
        with self._lock:
            self._regions += 1
        self.strike_if_due()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._regions -= 1
        if self.has_struck:
            # An asynchronous exception that is on its way arrives at a backward jump: let it arrive here and not in
            # other code.
            for _ in range(2):
                pass

    def strike_if_due(self) -> None:
        """Raise in the leg's own thread, if the limit is reached and the code is in a region.

        Raises:
            SoftTimeLimitExceeded: once per leg.
        """
        if self._regions and not self.has_struck and time.monotonic() >= self.deadline:
            self.has_struck = True
            raise SoftTimeLimitExceeded(self.seconds)

    def _strike_main_thread(self) -> None:
        signal.pthread_kill(self._thread, SIGNAL)

    def _strike_pool_thread(self) -> None:
        with self._lock:
            if self._regions and not self.has_struck:
                self.has_struck = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(SoftTimeLimitExceeded)
                )


class _Clock:
    """The thread that makes limits strike; there is one in each process that needs it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limits: set[SoftLimit] = set()
        self._wakes_at = float("inf")
        threading.Thread(target=self._run, name="soft-limits", daemon=True).start()

    def add(self, limit: SoftLimit) -> None:
        with self._changed:
            self._limits.add(limit)
            if limit.deadline < self._wakes_at:  # otherwise it wakes early enough by itself
                self._changed.notify()

    def discard(self, limit: SoftLimit) -> None:
        with self._changed:
            self._limits.discard(limit)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for limit in [limit for limit in self._limits if limit.deadline <= now]:
                    self._limits.discard(limit)
                    limit.strike()
                self._wakes_at = min((limit.deadline for limit in self._limits), default=float("inf"))
                self._changed.wait(None if not self._limits else max(self._wakes_at - time.monotonic(), 0.0))


_clock = OncePerProcess(_Clock)
_of_main_thread: SoftLimit | None = None
_handler = OncePerProcess(lambda: signal.signal(SIGNAL, _on_signal))


def install_handler() -> None:
    """Let limits strike in this process's main thread, which has to be the caller."""
    _handler()


def _on_signal(number: int, frame: FrameType | None) -> None:
    """A signal may arrive after its leg is over, so the limit that runs now decides by the clock."""
    if _of_main_thread is not None:
        _of_main_thread.strike_if_due()
