"""Read running tasks, for a client that asks a node what it does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array

#: How many characters of a task's arguments are read.
_LONGEST = 1024


class RunningRow(NamedTuple):
    """A task in the form that Celery shows."""

    id: str
    celery_id: str
    task_type: str
    #: Positional arguments as JSON, cut off; None: none.
    args: str | None
    #: Keyword arguments as JSON, cut off.
    parameters: str
    queue: str


def read_running(task_ids: Iterable[str]) -> Statement[RunningRow]:
    """Those of the tasks that exist, in no order."""
    return Statement(
        """
        SELECT id::text, coalesce(celery_id, id::text), task_type, left(args::text, %(longest)s),
               left(parameters::text, %(longest)s), queue
        FROM task WHERE id = ANY (%(ids)s::uuid[])
        """,
        {"ids": plain_array(task_ids), "longest": _LONGEST},
        row=RunningRow._make,
    )
