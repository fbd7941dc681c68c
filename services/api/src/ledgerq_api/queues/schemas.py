"""The wire form of queues."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct

from ledgerq_api.answers.ages import AsOf
from ledgerq_shared.states import State

#: Excludes `.` and `..`, which have another meaning in an address.
QUEUE_PATTERN = r"^(\.{0,2}[A-Za-z0-9_:@-]|\.{3})[A-Za-z0-9_.:@-]*$"

LONGEST_QUEUE_NAME = 128


def is_queue_name(name: str) -> bool:
    """Whether a new queue may have this name."""
    return len(name) <= LONGEST_QUEUE_NAME and re.match(QUEUE_PATTERN, name) is not None


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
    as_of: AsOf = UNSET


class NoBody(Struct, forbid_unknown_fields=True, frozen=True):
    """Nothing can be said."""


class QueueBody(Struct, forbid_unknown_fields=True, frozen=True):
    """How a queue is to be."""

    paused: Annotated[bool, Meta(description="Whether nothing is begun from it. What runs goes on.")]


class QueueState(Struct, kw_only=True, frozen=True):
    """How a queue is."""

    name: str
    paused: bool


WIRE_TYPES: list[Any] = [QueueList]
#: The types of the calls that change a queue; the document lists them beside those of actions on tasks.
CHANGE_TYPES: list[Any] = [QueueBody, QueueState]

decode_nothing = msgspec.json.Decoder(NoBody).decode
decode_queue = msgspec.json.Decoder(QueueBody).decode
