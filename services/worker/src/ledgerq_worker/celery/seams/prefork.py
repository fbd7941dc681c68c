"""Celery's prefork pool, changed so that its processes can run all kinds of tasks, and so that it notices at once when
one of them dies.

A dying process closes its files a moment before it can be waited for. Celery wakes up when the files are closed, finds
no process to wait for, stops watching, and looks again up to five seconds later (Celery 5.7); until then the slot is
empty.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from billiard.process import current_process
from celery.concurrency.asynpool import AsynPool, Worker
from celery.concurrency.prefork import TaskPool

from ledgerq_worker.slot.composure import pool_signals
from ledgerq_worker.slot.pipes import pool_pipes

#: Seconds between two looks for a process that seems to be dying, and how many such looks there are.
_LOOK_AGAIN_AFTER = 0.01
_LOOKS = 50


class _PoolProcess(Worker):
    def on_loop_start(self, pid: int) -> None:
        pool_signals.take_over()
        # Celery's pool processes are daemonic, and multiprocessing (of which billiard is a fork) does not let daemonic
        # processes start children.
        current_process()._config["daemon"] = False  # noqa: SLF001
        # The programs that a task starts are in a process group that can be ended with the task and that contains no
        # other task. On Linux the kernel ends a pool process with its parent, whatever group it is in.
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpgid(0, 0)
        pool_pipes.remember((self.inq._reader.fileno(), self.outq._writer.fileno()))  # noqa: SLF001
        super().on_loop_start(pid)


class _WatchfulPool(AsynPool):
    Worker = _PoolProcess

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        self._look_again(hub, proc, _LOOKS)

    def _look_again(self, hub: Any, proc: Any, looks: int) -> None:
        if looks and proc in self._pool:
            self.maintain_pool()
            hub.call_later(_LOOK_AGAIN_AFTER, self._look_again, hub, proc, looks - 1)


def ready_processes(pool: TaskPool) -> int:
    """How many of the pool's processes have reported that they are ready for work (a process may take long to start)
    and have accepted all jobs that were written to them.

    May be called from any thread; a change during the call counts as before or after it.
    """
    running: AsynPool = pool._pool  # noqa: SLF001
    ready, unheard = set(running._all_inqueues), set(unaccepted_jobs(pool).values())  # noqa: SLF001
    living = [process for process in list(running._pool) if process._is_alive()]  # noqa: SLF001
    return sum(process.inqW_fd in ready and process.pid not in unheard for process in living)


def unaccepted_jobs(pool: TaskPool) -> dict[int, int]:
    """The jobs that were written to a living process and that it has not accepted: by number, each with that process.

    May be called from any thread; a change during the call is counted as before or after. Jobs are written to a process
    only after it has reported that it is ready.
    """
    jobs = list(pool._pool._cache.values())  # noqa: SLF001
    return {
        job._job: job._write_to.pid  # noqa: SLF001
        for job in jobs
        if job._write_to is not None and job._accepted is False and job._write_to._is_alive()  # noqa: SLF001
    }


class WatchfulTaskPool(TaskPool):
    """The pool to give to Celery's worker instead of the name ``prefork``."""

    Pool = _WatchfulPool


def process_index() -> int | None:
    """The number of this process in its pool, from 0; None: it is not a pool process."""
    index = getattr(current_process(), "index", None)
    return None if index is None else int(index)
