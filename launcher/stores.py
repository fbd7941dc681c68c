"""The embedded servers while everything runs: one that died is started again, where it was."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledgerq_shared.embedded import EmbeddedError

if TYPE_CHECKING:
    from ledgerq_shared.embedded import EmbeddedPostgres, EmbeddedServers, EmbeddedValkey

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_STEADY_SECONDS = 60.0  # who ran this long starts again with the first delay


@dataclass
class _Watched:
    name: str
    server: EmbeddedPostgres | EmbeddedValkey
    delay: float = _FIRST_DELAY
    started_at: float = 0.0
    #: When it is to be started again, by the monotonic clock; null: it runs, or somebody has stopped it.
    start_at: float | None = None


class Stores:
    """Looks after both servers. To the services, which know their URLs, one that died is a store that is away."""

    def __init__(self, servers: EmbeddedServers) -> None:
        self._watched = (_Watched("PostgreSQL", servers.postgres), _Watched("Valkey", servers.valkey))

    def look_after(self) -> None:
        """Start again what has died, with longer and longer pauses, and a line each time."""
        now = time.monotonic()
        for one in self._watched:
            if one.start_at is None:
                if one.server.has_died():
                    if now - one.started_at > _STEADY_SECONDS:
                        one.delay = _FIRST_DELAY
                    _put_off(one, "has ended")
            elif one.server.processes():
                one.start_at = None  # somebody else has started it
            elif now >= one.start_at:
                _start(one)


def _start(one: _Watched) -> None:
    try:
        one.server.start(same_port=True)
    except EmbeddedError as error:
        _put_off(one, f"did not start again ({error})")
    else:
        one.start_at, one.started_at = None, time.monotonic()
        print(f"ledgerq: {one.name} is there again", file=sys.stderr)


def _put_off(one: _Watched, what: str) -> None:
    print(f"ledgerq: {one.name} {what}; it starts again in {one.delay:g} s", file=sys.stderr)
    one.start_at = time.monotonic() + one.delay
    one.delay = min(2 * one.delay, _LONGEST_DELAY)
