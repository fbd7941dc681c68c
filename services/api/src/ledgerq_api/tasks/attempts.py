"""A task's attempts, made from its history."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from ledgerq_api.tasks.schemas import Attempt
from ledgerq_shared.events import Event, EventKind

_WORKER = "worker:"


def attempts_of(events: Iterable[Event], *, is_whole: bool = True) -> list[Attempt]:
    """There is one entry per `started` event; the first later step that ends an attempt ends it.

    Args:
        is_whole: whether these are all events; otherwise the end of the last attempt may be missing, and that attempt
            is left out.
    """
    begun: Event | None = None
    attempts: list[Attempt] = []
    for event in events:
        if event.kind == EventKind.STARTED:
            begun = event
        elif begun is not None and event.kind != EventKind.DISPATCHED:
            attempts.append(_attempt(begun, event))
            begun = None
    if begun is not None and is_whole:
        attempts.append(_attempt(begun, None))
    return attempts


def _attempt(begun: Event, ended: Event | None) -> Attempt:
    return Attempt(
        attempt=begun.attempt,
        worker=begun.actor.removeprefix(_WORKER) if begun.actor.startswith(_WORKER) else None,
        started_at=begun.at.astimezone(UTC),
        ended_at=None if ended is None else ended.at.astimezone(UTC),
        outcome="running" if ended is None else ended.kind,
    )
