"""The tasks that chaos tests run. Copied into the workers' folder, where it is imported as ``chaos_tasks``.

Every run writes its begin and its end into ``journal.jsonl`` of that folder, with one atomic write each, past the
ledger: so the tests can count what really ran. Times are of the system's monotonic clock, the same in all processes.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_process_init

from clients.celery.base_tasks import DatabaseAwareTask


@worker_process_init.connect
def _load_a_model(**_):
    """A pool process that takes long to start, where the test says so."""
    time.sleep(float(os.environ.get("CHAOS_SLOW_START", "0")))


def _note(what, task):
    line = {"what": what, "task": task.request.id, "pid": os.getpid(), "at": time.monotonic(), "type": task.name}
    handle = os.open("journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, json.dumps(line).encode() + b"\n")
    finally:
        os.close(handle)


def _wait_for(gate):
    while not Path(gate).exists():
        time.sleep(0.01)


@shared_task(bind=True)
def quick(self, number=0):
    _note("begin", self)
    _note("end", self)
    return number


@shared_task(bind=True)
def slow(self, seconds):
    _note("begin", self)
    time.sleep(seconds)
    _note("end", self)
    return seconds


@shared_task(bind=True)
def gated(self, gate):
    """Runs until the file ``gate`` exists."""
    _note("begin", self)
    _wait_for(gate)
    _note("end", self)
    return gate


@shared_task(bind=True)
def gated_once(self, gate):
    """The first run waits for ``gate``; any later one ends at once."""
    is_first = not Path(f"{gate}.begun").exists()
    Path(f"{gate}.begun").touch()
    _note("begin", self)
    if is_first:
        _wait_for(gate)
    _note("end", self)
    return "first" if is_first else "later"


@shared_task(bind=True, base=DatabaseAwareTask)
def reports(self, gate):
    """Reports progress all the time until ``gate`` exists."""
    _note("begin", self)
    steps = 0
    while not Path(gate).exists():
        steps += 1
        self.update_progress(steps % 100, f"step {steps}")
        time.sleep(0.01)
    _note("end", self)
    return steps


@shared_task(bind=True, base=DatabaseAwareTask)
def reports_late(self, gate):
    """Says nothing until ``gate`` exists, then reports once and waits for ``gate`` with `.end`."""
    _note("begin", self)
    _wait_for(gate)
    self.update_progress(50, "late")
    self.log("late")
    _wait_for(f"{gate}.end")
    _note("end", self)


@shared_task(bind=True, base=DatabaseAwareTask, time_limit=2)
def chatters(self):
    """Logs as fast as it can, until it is killed."""
    _note("begin", self)
    while True:
        self.log("another line")


@shared_task(bind=True, base=DatabaseAwareTask)
def asks(self, gate):
    """Asks all the time whether it is to end, until ``gate`` exists."""
    _note("begin", self)
    while not Path(gate).exists():
        self.raise_if_cancelled()
        time.sleep(0.01)
    _note("end", self)
    return gate


@shared_task(bind=True, max_retries=3)
def tries_later(self, countdown):
    _note("begin", self)
    _note("end", self)
    raise self.retry(countdown=countdown, exc=ValueError("not yet"))


@shared_task(bind=True, on_worker_lost="fail")
def must_not_run_twice(self, gate=None):
    _note("begin", self)
    if gate:
        _wait_for(gate)
    _note("end", self)


@shared_task(bind=True)
def next_step(self, before):
    _note("begin", self)
    _note("end", self)
    return before


@shared_task(bind=True)
def fails_once_gated(self, gate):
    """The first run waits for ``gate``; every run fails."""
    is_first = not Path(f"{gate}.begun").exists()
    Path(f"{gate}.begun").touch()
    _note("begin", self)
    if is_first:
        _wait_for(gate)
    _note("end", self)
    raise ValueError(gate)


@shared_task(bind=True)
def hears_of_a_failure(self, failed_id):
    _note("begin", self)
    _note("end", self)
    return failed_id


@shared_task(bind=True)
def collects(self, results):
    _note("begin", self)
    _note("end", self)
    return results


@shared_task(bind=True)
def holds_the_gil(self, seconds):
    """In C, without releasing the GIL: no other thread of this process runs meanwhile."""
    _note("begin", self)
    ctypes.PyDLL(None).sleep(int(seconds))
    _note("end", self)
    return seconds


@shared_task(bind=True)
def dies(self, how):
    """Kills its own process."""
    _note("begin", self)
    if how == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)
    elif how == "abort":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
    elif how == "exit 0":
        os._exit(0)
    elif how == "exit 1":
        os._exit(1)
    time.sleep(60)


@shared_task(bind=True)
def kills_the_node(self, gate):
    """What the kernel does to a container that is beyond its memory limit: every process of it is killed at once."""
    _note("begin", self)
    _wait_for(gate)
    top = psutil.Process()
    while (above := top.parent()) is not None and "ledgerq_worker" in " ".join(above.cmdline()):
        top = above
    for process in [*top.children(recursive=True), top]:
        if process.pid != os.getpid():
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(bind=True)
def freezes_its_node_once(self, gate=None):
    """Stops every process of its node, its own last. The rest of its claim runs when somebody lets them go on.

    It is at its end then and keeps the GIL. Otherwise the watcher could hand back the rest before the drain looks.
    """
    _note("begin", self)
    if gate and not Path(gate).exists():
        _note("end", self)
        Path(gate).touch()
        sys.setswitchinterval(10)
        top = psutil.Process()
        while (above := top.parent()) is not None and "ledgerq_worker" in " ".join(above.cmdline()):
            top = above
        for process in [top, *top.children(recursive=True)]:
            if process.pid != os.getpid():
                process.suspend()
        sent_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGSTOP)
        # If there are several threads, this one may go on for a moment. It must not begin the rest of its claim.
        while time.monotonic() - sent_at < 1:
            time.sleep(0.01)
    else:
        _note("end", self)


@shared_task(bind=True)
def leaves_a_thread_that_keeps_the_gil(self):
    """The thread takes the GIL when the task has ended and is recorded, and its slot is idle again."""

    def keep():
        time.sleep(2)
        Path("kept").touch()
        ctypes.PyDLL(None).sleep(100_000)

    _note("begin", self)
    threading.Thread(target=keep, daemon=True).start()
    _note("end", self)


@shared_task(bind=True)
def eats_memory(self):
    """Asks for more memory than its process may have: what Python then raises is an error like any other."""
    _note("begin", self)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 1024 * 1024, before[1]))
    try:
        hoard = []
        while True:
            hoard.append(bytearray(8 * 1024 * 1024))
    finally:
        hoard = None
        resource.setrlimit(resource.RLIMIT_AS, before)


@shared_task(bind=True, soft_time_limit=0.3, time_limit=1.5)
def ignores_the_soft_limit(self):
    _note("begin", self)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            time.sleep(1)
        except SoftTimeLimitExceeded:
            pass


class _Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__(first)
        self.handle = open(os.devnull)

    def __reduce__(self):
        raise TypeError("not today")


class _Unreadable(Exception):
    def __str__(self):
        raise ValueError("nobody may read this")

    __repr__ = __str__


class _NotAnException(BaseException):
    pass


def _nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


_RAISED = {
    "unpicklable": lambda: _Unpicklable(1, 2),
    "unreadable": lambda: _Unreadable(),
    "huge": lambda: ValueError("x" * 20_000_000),
    "nul": lambda: ValueError("a\x00b\ud800c"),
    "base": lambda: _NotAnException("past every except Exception"),
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt(),
    "generator exit": lambda: GeneratorExit(),
    "recursion": lambda: RecursionError("deep"),
    "not instantiable": lambda: type("Odd", (Exception,), {"__init__": lambda self: None})(),
}
_RETURNED = {
    "nan": lambda: float("nan"),
    "infinity": lambda: {"a": float("inf")},
    "set": lambda: {1, 2, 3},
    "bytes": lambda: b"\xff\xfe",
    "10 MiB": lambda: "x" * (10 * 1024 * 1024),
    "deep": lambda: _nested(100_000),
    "deep enough": lambda: _nested(900),
    "itself": lambda: _itself(),
    "object": lambda: object(),
    "odd keys": lambda: {(1, 2): 3},
    "surrogates": lambda: {"text": "\ud800 \x00 \udfff"},
    "huge integer": lambda: 10**400,
    "generator": lambda: (number for number in range(3)),
}


def _itself():
    value = []
    value.append(value)
    return value


@shared_task(bind=True)
def raises(self, what):
    _note("begin", self)
    raise _RAISED[what]()


@shared_task(bind=True)
def returns(self, what):
    _note("begin", self)
    return _RETURNED[what]()


@shared_task(bind=True)
def starts_a_process(self):
    """Leaves a process behind that inherits whatever is inheritable."""
    _note("begin", self)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"], close_fds=True)
    _note("end", self)
