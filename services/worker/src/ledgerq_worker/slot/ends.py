"""How a leg ends, as a value: made once, and read by all who record it, publish it, show it and count it.

What a leg has sent on after its body leaves with its end (:attr:`~ledgerq_worker.slot.legs.Leg.follow_ups`, ``messages``).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from msgspec import Struct

from ledgerq_shared.states import State


class Next(NamedTuple):
    """The same task once more, or another in its place, under the same id. Fields as in ``record.NextLeg``."""

    task_type: str
    queue: str
    priority: int
    retries: int
    args: str | None
    parameters: str
    celery: str | None
    delay: float | None = None
    run_at: str | None = None


class Succeeded(Struct, frozen=True):
    """The body has returned, or has raised ``Ignore``."""

    state: ClassVar[State] = State.SUCCESS
    #: As JSON; null: there is none that somebody may ask for.
    result: str | None
    #: What the body returned, for Celery's result backend.
    value: Any = None
    #: Celery's request context of this execution; null: Celery's tracer has told nobody of this end.
    request: Any = None
    #: Whether ``AsyncResult`` is to see it (not for ``ignore_result``).
    is_published: bool = False
    #: What its event says beyond that, as JSON.
    data: str | None = None


class Failed(Struct, frozen=True):
    """The body has raised something, or could not be run."""

    state: ClassVar[State] = State.FAILURE
    #: Type, message and traceback, as JSON.
    error: str
    #: For Celery's result backend.
    exception: BaseException
    #: As in :class:`Succeeded`.
    request: Any = None
    is_published: bool = False


class Revoked(Struct, frozen=True):
    """It was cancelled or expired, before it began or while it ran."""

    state: ClassVar[State] = State.REVOKED
    #: Why, as JSON.
    data: str
    #: As in :class:`Succeeded`.
    request: Any = None
    is_published: bool = False


class GoesOn(Struct, frozen=True):
    """This was not the last leg of its task."""

    #: RETRY; or PENDING, where another task takes its place.
    state: State
    next: Next
    #: Why, as JSON.
    data: str


End = Succeeded | Failed | Revoked | GoesOn
