"""Time limits of the task that runs, not of the drain that contains it.

The soft limit raises :class:`~celery.exceptions.SoftTimeLimitExceeded` inside the task: by an interval timer where the
task runs in its process's main thread, by an asynchronous exception in a pool thread. The hard limit is a deadline in
the slot table; the lease agent kills the process. Threads cannot be killed, so they have no hard limit of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from celery.exceptions import SoftTimeLimitExceeded


@contextlib.contextmanager
def soft_limit(seconds: float | None) -> Iterator[None]:
    """Raise :class:`SoftTimeLimitExceeded` in this thread after ``seconds``; null or 0: never."""
    if not seconds:
        yield
    elif threading.current_thread() is threading.main_thread():
        with _by_timer(seconds):
            yield
    else:
        with _by_thread(seconds):
            yield


@contextlib.contextmanager
def _by_timer(seconds: float) -> Iterator[None]:
    def expired(number: int, frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded(seconds)

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        # Disarmed by the thread that armed it: no alarm can hit the next task.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    target = threading.get_ident()
    lock = threading.Lock()
    is_over = False

    def expired() -> None:
        with lock:
            if not is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(target), ctypes.py_object(SoftTimeLimitExceeded)
                )

    timer = threading.Timer(seconds, expired)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            is_over = True
        timer.cancel()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), None)
