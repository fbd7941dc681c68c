"""Who sends a request, as far as the code behind the gate needs to know."""

from __future__ import annotations

from typing import NamedTuple

#: The actor in the event log for callers that need no key.
ANYBODY = "api"


class Caller(NamedTuple):
    """Who submits."""

    #: For the event log: ``key:<id>``, or :data:`ANYBODY`.
    actor: str = ANYBODY
    #: Whether the caller may see others' tasks (``tasks:read`` or ``tasks:control``), and whether it may end them
    #: (``tasks:control``).
    sees_all: bool = True
    ends_all: bool = True


#: The caller while nobody needs a key.
NOBODY_IN_PARTICULAR = Caller()
