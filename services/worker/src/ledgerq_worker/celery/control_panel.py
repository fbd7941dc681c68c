"""Celery's remote control of a node (``app.control``, ``inspect``, Flower), made to respect the ledger.

Celery's own commands know messages, and here the messages are tickets. So commands that ask about tasks are answered
with the tasks inside the drains, a revoke is a cancel in the ledger, and commands that would bypass the ledger are
refused.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from celery import Celery
from celery.platforms import signals
from celery.utils.functional import maybe_list

from ledgerq_shared.broker import DRAIN_TASK, queue_of
from ledgerq_shared.errors import LedgerQError, TaskIsFinal, TaskNotFound
from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.process.once import OncePerProcess
from ledgerq_shared.statements.read_running import RunningRow, read_running
from ledgerq_shared.statements.read_stamped import read_stamped
from ledgerq_shared.statements.read_task import find_task
from ledgerq_shared.tasks.cancelling import cancel
from ledgerq_worker.celery.seams.panel import replace_commands
from ledgerq_worker.celery.seams.revocations import is_stamped, known_ids, remember_ids, remember_stamps
from ledgerq_worker.slot.table import SlotTable

T = TypeVar("T")

log = structlog.get_logger()

_LIMITS = "limits of tasks stand in their code or in the submit; the ledger keeps them"
_QUEUES = "LEDGERQ_WORKER_QUEUES says which queues a node serves; pause a queue with POST /queues/{name}/pause"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class ControlPanel:
    """Answers for one node, in the parent process.

    Args:
        connect: opens the database, in the process that uses it.
        actor: who cancels, for the event log.
    """

    def __init__(
        self, app: Celery, table: SlotTable, connect: Callable[[], Database], *, hostname: str, actor: str
    ) -> None:
        self._app = app
        self._table = table
        self._database = OncePerProcess(connect)
        self._hostname = hostname
        self._actor = actor
        self._originals: dict[str, Callable[..., Any]] = {}

    def install(self) -> None:
        """Take over the commands, for all applications of this process: Celery has one table of them."""
        own: dict[str, Callable[..., Any]] = {
            "revoke": self._revoke,
            "terminate": self._terminate,
            "revoke_by_stamped_headers": self._revoke_stamped,
            "rate_limit": _always({"error": _LIMITS}),
            "time_limit": _always({"error": _LIMITS}),
            "shutdown": self._shut_down,
            "pool_grow": self._grow,
            "add_consumer": _always({"error": _QUEUES}),
            "cancel_consumer": _always({"error": _QUEUES}),
            "active": self._active,
            "reserved": _always([]),
            "revoked": lambda *_, **__: known_ids(),
            "stats": self._stats,
            "registered": self._registered,
            "active_queues": self._active_queues,
            # Flower sends this every five seconds; here a listener is noticed without it.
            "enable_events": _always({"ok": "events are sent while somebody listens"}),
            "disable_events": _always({"ok": "events are sent while somebody listens"}),
            "heartbeat": _always({"ok": "heartbeats are sent every two seconds"}),
        }
        for name, original in replace_commands(own).items():
            if not isinstance(getattr(original, "__self__", None), ControlPanel):
                self._originals[name] = original

    def _revoke(self, state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
        """Cancel in the ledger. Every node gets the command; a later one finds the task cancelled already. A message
        that comes with such an id in the next three hours is revoked, too.
        """
        ids = [str(one) for one in maybe_list(task_id) or []]
        remember_ids(ids)  # before the look into the ledger: see the seam
        return {"ok": "; ".join([self._cancel(one, _number(signal) if terminate else None) for one in ids])}

    def _revoke_stamped(self, state: Any, headers: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
        """Cancel the tasks with one of these stamps; a message that comes with one later is revoked, too."""
        if isinstance(headers, (list, tuple)):  # from the command line
            headers = dict(one.split("=", 1) for one in headers)
        remember_stamps(headers)
        try:
            rows = self._in_ledger(lambda cursor: execute(cursor, read_stamped()))
        except LedgerQError as error:
            return {"error": error.detail}
        ids = [task_id for task_id, stamps in rows if is_stamped(json.loads(stamps), headers)]
        said = [self._cancel(task_id, _number(signal) if terminate else None) for task_id in ids]
        return {"ok": "; ".join(said) or f"no unfinished task has a stamp of {headers}"}

    def _terminate(self, state: Any, signal: Any, task_id: Any, **_: Any) -> Any:
        return self._revoke(state, task_id, terminate=True, signal=signal)

    def _cancel(self, task_id: str, signal: int | None) -> str:
        """Cancel one task, and terminate it if there is a signal."""
        terminate = signal is not None

        def work(cursor: Cursor) -> str:
            own_id = task_id.lower() if _UUID.fullmatch(task_id) else None
            found = execute(cursor, find_task(task_id=own_id, celery_id=task_id)) if task_id.isprintable() else []
            if not found:
                return f"no task has the id {task_id[:100]}"
            [(own_id,)] = found
            done = cancel(
                cursor,
                own_id,
                actor=self._actor,
                message="revoked by remote control",
                terminate=terminate,
                signal=signal,
            )
            return f"task {task_id} is {done.state}" if done.state == "REVOKED" else f"task {task_id} was asked to end"

        try:
            said = self._in_ledger(work)
        except (TaskIsFinal, TaskNotFound) as error:
            return error.detail
        except LedgerQError as error:
            log.warning("worker.control.not_cancelled", task_id=task_id, error=error.detail)
            return f"task {task_id} is not cancelled: {error.detail}"
        log.info("worker.control.revoke", task_id=task_id, terminate=terminate, outcome=said)
        return said

    def _active(self, state: Any, **_: Any) -> list[dict[str, Any]]:
        """The tasks that run inside the drains."""
        running = {record.task_id: record for record in self._table.read() if record.task_id is not None}
        if not running:
            return []
        try:
            rows = self._in_ledger(lambda cursor: execute(cursor, read_running(running)))
        except LedgerQError:
            rows = [RunningRow(task_id, task_id, "", None, "{}", "") for task_id in running]
        found = []
        for row in rows:
            record = running[row.id]
            found.append(
                {
                    "id": row.celery_id,
                    "name": row.task_type,
                    "type": row.task_type,
                    "args": row.args or "[]",
                    "kwargs": row.parameters,
                    "hostname": self._hostname,
                    "time_start": time.time() - (time.monotonic() - record.begun_at),
                    "acknowledged": True,
                    "delivery_info": {"exchange": "", "routing_key": row.queue, "priority": None, "redelivered": None},
                    "worker_pid": record.pid,
                }
            )
        return found

    def _stats(self, state: Any, **more: Any) -> Any:
        """Celery's own answer, without the drains, which it counts as messages, and without passwords, which Celery
        hides everywhere else.
        """
        stats = self._originals["stats"](state, **more)
        if isinstance(stats.get("broker"), dict):
            stats["broker"].pop("transport_options", None)  # with Sentinel they have the sentinels' password
        stats["total"] = {name: count for name, count in stats.get("total", {}).items() if name != DRAIN_TASK}
        return stats

    def _registered(self, state: Any, *arguments: Any, **more: Any) -> Any:
        names = self._originals["registered"](state, *arguments, **more)
        return [name for name in names if not name.startswith(DRAIN_TASK)]

    def _active_queues(self, state: Any, **more: Any) -> list[dict[str, Any]]:
        """The queues under the names that people know; the consumer reads the lists of their tickets."""
        return [_known(queue) for queue in self._originals["active_queues"](state, **more)]

    def _grow(self, state: Any, n: int = 1, **more: Any) -> Any:
        """Grow the pool, but only up to the node's slots: each slot has a record, and one process at a time uses it."""
        if state.consumer.pool.num_processes + int(n) > self._table.count:
            return {"error": f"this node has {self._table.count} slots; LEDGERQ_WORKER_CONCURRENCY says how many"}
        return self._originals["pool_grow"](state, n=n, **more)

    def _shut_down(self, state: Any, *_: Any, **__: Any) -> Any:
        """Shut down as after SIGTERM: running tasks may end, tasks that have not begun are handed back."""
        os.kill(os.getpid(), signal.SIGTERM)
        return {"ok": "shutting down"}

    def _in_ledger(self, work: Callable[[Cursor], T]) -> T:
        with self._database().transaction() as cursor:
            return work(cursor)


def _number(name: Any) -> int:
    """A signal's number, from what a client may send; SIGTERM if it sent none."""
    return int(signals.signum(name or "TERM"))


def _known(queue: dict[str, Any]) -> dict[str, Any]:
    """Celery's description of a queue, with the queue's own name instead of the name of its list of tickets."""
    known = {key: queue_of(value) if isinstance(value, str) else value for key, value in queue.items()}
    if isinstance(exchange := queue.get("exchange"), dict) and isinstance(exchange.get("name"), str):
        known["exchange"] = exchange | {"name": queue_of(exchange["name"])}
    return known


def _always(answer: Any) -> Callable[..., Any]:
    """A command that always gives the same answer."""

    def command(state: Any, *_: Any, **__: Any) -> Any:
        return answer

    return command
