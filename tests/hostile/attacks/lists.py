"""Lists that cost PostgreSQL much."""

from __future__ import annotations

from tests.hostile.attacks.visit import Visit

_TARGETS = (
    "/tasks/?status=PENDING&submitted_after=2020-01-01T00:00:00Z",
    "/tasks/?status=PENDING&submitted_before=2020-01-01T00:00:00Z",
    "/tasks/?status=PENDING&submitted_after=2020-01-01T00:00:00Z&page_size=1000&page=10",
    "/tasks/?task_type=work&status=FAILURE&submitted_after=2020-01-01T00:00:00Z",
    "/tasks/?queue=nobody&tag=nothing&submitted_after=2020-01-01T00:00:00Z",
)


async def run(visit: Visit) -> None:
    """Twelve at a time."""
    await visit.crowd(12, _one)


async def _one(visit: Visit) -> None:
    visit.note(await visit.call("GET", visit.dice.choice(_TARGETS)), 200)
