"""The wire form of queues."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from ledgerq_shared.states import State


class QueueEntry(Struct, kw_only=True, frozen=True):
    """A queue."""

    name: str
    paused: bool
    counts: Annotated[dict[State, int], Meta(description="Tasks by state, exact; all six states are there.")]
    oldest_ready_seconds: Annotated[
        float | None,
        Meta(description="How long the oldest task that may run has been waiting; null: none waits."),
    ]
    worker_slots: Annotated[int, Meta(description="Slots of live workers that serve it.")]


class QueueList(Struct, kw_only=True, frozen=True):
    """A page of all queues that were ever used, by name."""

    queues: list[QueueEntry]
    total_count: Annotated[int, Meta(description="Of all queues, on whatever page.")]
    next_cursor: Annotated[str | None, Meta(description="`cursor` of the next page; null: this is the last one.")]


WIRE_TYPES: list[Any] = [QueueList]
