"""How a leg ends, as a value: it is made once, and is read by the code that records it, publishes it, shows it and
counts it.

What a leg has sent after its body leaves together with its end (:attr:`~ledgerq_worker.slot.legs.Leg.follow_ups`,
``messages``).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from msgspec import Struct

from ledgerq_shared.states import State


class Next(NamedTuple):
    """The next leg: the same task once more, or another task instead of it, under the same id. The fields are those of
    ``record.NextLeg``.
    """

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
    #: As JSON; None: no result is kept.
    result: str | None
    #: What the body returned, for Celery's result backend.
    value: Any = None
    #: Celery's request context of this attempt; None: Celery's tracer has not reported this end.
    request: Any = None
    #: Whether ``AsyncResult`` will see it (not with ``ignore_result``).
    is_published: bool = False
    #: Further data for its event, as JSON.
    data: str | None = None


class Failed(Struct, frozen=True):
    """The body has raised something, or could not be run."""

    state: ClassVar[State] = State.FAILURE
    #: Type, message and traceback, as JSON.
    error: str
    #: The exception for Celery's result backend.
    exception: BaseException
    #: As in :class:`Succeeded`.
    request: Any = None
    is_published: bool = False


class Revoked(Struct, frozen=True):
    """The task was cancelled or expired, before it began or while it ran."""

    state: ClassVar[State] = State.REVOKED
    #: Why, as JSON.
    data: str
    #: As in :class:`Succeeded`.
    request: Any = None
    is_published: bool = False


class GoesOn(Struct, frozen=True):
    """This was not the last leg of its task."""

    #: RETRY; or PENDING, if another task replaces it.
    state: State
    next: Next
    #: Why, as JSON.
    data: str


End = Succeeded | Failed | Revoked | GoesOn
