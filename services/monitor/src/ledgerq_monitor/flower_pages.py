"""What Flower's pages show beyond Celery: attempts and progress of a task, text as text, and the ledger's queues.

Flower's templates are its own; its version is pinned, and a test looks at the pages.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from celery.events.state import Task

from ledgerq_monitor.collectors.collector import Ledger
from ledgerq_shared.broker import queue_of, ticket_list
from ledgerq_shared.statements.read_metrics import QueueGauges, read_queue_gauges

#: The fields of a task that Celery does not know, with their columns on the page of tasks.
_FIELDS = {"attempts": "Attempts", "progress": "Progress"}
#: The columns of the page of tasks.
COLUMNS = "name,uuid,state,progress,args,kwargs,result,received,started,runtime,attempts,retries,worker"

#: The headings of Flower's page of queues, and what stands there. The broker holds only tickets: there are as many as
#: slots that have to be woken, however many tasks wait in the ledger.
_HEADINGS = {
    "Messages": "Waiting tasks",
    "Unacked": "Tasks with workers",
    "Ready": "Tickets",
    "Consumers": "Slots",
    "Idle since": "Paused",
}

#: An escape of JSON; of a character beyond 16 bits there are two.
_ESCAPE = re.compile(r"\\(?:u([dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[0-9a-fA-F]{4})|.)", re.DOTALL)


def readable(text: object) -> object:
    """A JSON text, which may be cut off, with letters and signs instead of their escapes. It stays the same JSON."""
    return _ESCAPE.sub(_character, text) if isinstance(text, str) and "\\u" in text else text


def _character(escape: re.Match[str]) -> str:
    digits = escape[1]
    if digits is None:
        return escape[0]
    units = bytes.fromhex(digits.replace("\\u", ""))
    character = units.decode("utf-16-be", errors="ignore")
    return character if character.isprintable() and not character.isascii() else escape[0]


def add_fields() -> None:
    """Let tasks have the fields that Celery does not know."""
    from flower.views.tasks import TASK_COLUMNS

    TASK_COLUMNS.update(_FIELDS)
    if "progress" not in Task._fields:
        Task._fields += tuple(_FIELDS)
        Task.attempts = Task.progress = None


def count_the_living_only() -> None:
    """Let a worker that is gone run no tasks: Flower goes on showing the number of its last heartbeat."""
    from flower.views.workers import WorkersView

    def as_dict(worker: Any) -> dict[str, Any]:
        fields = {name: getattr(worker, name) for name in worker._fields}
        return fields if worker.alive else {**fields, "active": 0}

    WorkersView._as_dict = staticmethod(as_dict)  # noqa: SLF001 - it is what the page and its JSON are made of


def format_task(task: Any) -> Any:
    """A copy of a task as the pages show it (Flower's option ``format_task``). The page of one task gives its id, too."""
    shown = task[1] if isinstance(task, tuple) else task
    if shown is not None:
        for field in ("args", "kwargs", "result"):
            setattr(shown, field, readable(getattr(shown, field)))
    return task


def broker_page(ledger: Ledger | None) -> type[Any]:
    """The page of queues, with the ledger's counts if there is a ledger."""
    from flower.views.broker import BrokerView
    from tornado.web import authenticated

    class Queues(BrokerView):  # type: ignore[misc]
        """How much waits and runs in each queue, and how many tickets lie in Redis."""

        @authenticated
        async def get(self) -> None:
            """The page."""
            gauges = await _gauges(ledger)
            names = sorted({queue_of(name) for name in self.get_active_queue_names()} | gauges.keys())
            try:
                lists = await self.get_broker().queues([ticket_list(name) for name in names])
            except Exception:  # Redis is away, in one of its library's many ways
                lists = []
            tickets = {queue_of(one["name"]): one.get("messages") for one in lists}
            queues = [_row(name, gauges.get(name), tickets.get(name)) for name in names]
            self.render("broker.html", broker_url=self.application.broker_uri, queues=queues)

        def render_string(self, template_name: str, **named: Any) -> bytes:
            """With our headings."""
            page: bytes = super().render_string(template_name, **named)
            for theirs, ours in _HEADINGS.items():
                page = page.replace(f">{theirs}</th>".encode(), f">{ours}</th>".encode())
            return page

    return Queues


async def _gauges(ledger: Ledger | None) -> dict[str, QueueGauges]:
    if ledger is None:
        return {}
    try:
        rows = await asyncio.get_running_loop().run_in_executor(None, ledger.fetch_old, read_queue_gauges())
    except Exception:  # away, not migrated yet, no privilege: the log says so (`flower_tasks`)
        return {}
    return {row.queue: row for row in rows}


def _row(name: str, gauges: QueueGauges | None, tickets: int | None) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "messages_ready": tickets}
    if gauges is not None:
        row |= {
            "messages": gauges.ready,
            "messages_unacknowledged": gauges.claimed,
            "consumers": gauges.slots,
            "idle_since": "yes" if gauges.is_paused else "no",
        }
    return row
