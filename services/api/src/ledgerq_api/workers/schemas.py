"""The wire form of workers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct

from ledgerq_api.answers.ages import AsOf

_Time = Annotated[datetime, Meta(tz=True)]


class RunningTask(Struct, kw_only=True, frozen=True):
    """A task whose code is running."""

    task_id: str
    task_type: str
    started_at: _Time


class WorkerEntry(Struct, kw_only=True, frozen=True):
    """A live worker node."""

    worker_id: str
    name: str
    host: str
    pid: int
    pool: str
    slots: int
    queues: list[str]
    task_types: list[str]
    started_at: _Time
    heartbeat_age_seconds: Annotated[float, Meta(description="Since its lease was last renewed.")]
    stopping: bool
    running: list[RunningTask]


class WorkerList(Struct, kw_only=True, frozen=True):
    """All live workers, by name."""

    workers: list[WorkerEntry]
    total_count: int
    as_of: AsOf = UNSET


WIRE_TYPES: list[Any] = [WorkerList]
