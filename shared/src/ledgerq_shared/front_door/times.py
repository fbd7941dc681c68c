"""For how long a client is waited for, and what happens then."""

from __future__ import annotations

from enum import Enum, auto

from ledgerq_shared.errors import RequestTimedOut
from ledgerq_shared.front_door.guard import Limits
from ledgerq_shared.languages import say


class Part(Enum):
    """What a connection waits for from its client."""

    HEAD = auto()
    BODY = auto()
    #: The rest of a body whose request was answered before all of it had arrived.
    REST = auto()
    NOTHING = auto()


class End(Enum):
    """How a connection ends whose client gets no answer."""

    #: All that was written is still sent.
    CLOSE = auto()
    ABORT = auto()


def end_of_wait(part: Part, waited: float, limits: Limits, *, is_begun: bool) -> RequestTimedOut | End | None:
    """What ends a connection that has waited for so many seconds; None: its client still has time.

    Args:
        part: what it waits for.
        waited: seconds since the client was first waited for.
        is_begun: whether some of the head has arrived. If not, nothing was asked, and nothing is answered.
    """
    if part is Part.HEAD and waited > limits.head_seconds:
        if not is_begun:
            return End.CLOSE
        return RequestTimedOut(
            say("The request's head did not arrive within {seconds:g} s.", seconds=limits.head_seconds)
        )
    if part is Part.BODY and waited > limits.body_seconds:
        return RequestTimedOut(
            say("The request's body did not arrive within {seconds:g} s.", seconds=limits.body_seconds)
        )
    if part is Part.REST and waited > limits.linger_seconds:
        return End.ABORT
    return None
