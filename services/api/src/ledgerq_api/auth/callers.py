"""Who sends a request, as far as it matters behind the gate."""

from __future__ import annotations

from typing import NamedTuple

#: What stands in the event log for somebody who needs no key.
ANYBODY = "api"


class Caller(NamedTuple):
    """Who submits."""

    #: For the event log: ``key:<id>``, or :data:`ANYBODY`.
    actor: str = ANYBODY
    #: Whether tasks of others may be shown (``tasks:read`` or ``tasks:control``), and ended (``tasks:control``).
    sees_all: bool = True
    ends_all: bool = True


#: Where nobody needs a key.
NOBODY_IN_PARTICULAR = Caller()
