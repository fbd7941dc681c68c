"""The wire form of task types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

_Time = Annotated[datetime, Meta(tz=True)]


class TaskTypeEntry(Struct, kw_only=True, frozen=True):
    """A registered task type."""

    name: str
    doc: Annotated[str, Meta(description="The function's doc string.")]
    parameters_schema: Annotated[dict[str, Any], Meta(description="JSON Schema of `task_parameters`.")]
    queue: Annotated[str, Meta(description="Where its tasks go unless the submit says otherwise.")]
    options: Annotated[dict[str, Any], Meta(description="Retries, time limits and the like; null: not set.")]
    live_workers: Annotated[list[str], Meta(description="Names of the live workers that serve it.")]
    registered_at: _Time
    updated_at: _Time


class TaskTypeList(Struct, kw_only=True, frozen=True):
    """All registered task types, by name."""

    task_types: list[TaskTypeEntry]
    total_count: int


WIRE_TYPES: list[Any] = [TaskTypeEntry, TaskTypeList]
