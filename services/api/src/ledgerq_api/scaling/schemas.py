"""The wire form of a queue's demand."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct


class Scaling(Struct, kw_only=True, frozen=True):
    """What waits in the queues and how many workers it needs. Every field is always a number."""

    backlog: Annotated[
        int,
        Meta(description="Tasks that may run now and wait for a worker. Exact up to 10,000, from the counters beyond."),
    ]
    running: Annotated[int, Meta(description="Tasks in workers' hands.")]
    oldest_seconds: Annotated[float, Meta(description="How long the oldest of the backlog has waited; 0: none waits.")]
    drain_seconds: Annotated[
        float,
        Meta(description="How long the backlog takes the live slots, by run times measured; without a slot, one slot."),
    ]
    desired_workers: Annotated[
        int,
        Meta(description="Workers that would drain the backlog within the target time; 0: nothing waits or runs."),
    ]


WIRE_TYPES: list[Any] = [Scaling]
