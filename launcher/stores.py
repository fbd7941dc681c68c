"""The embedded servers while everything runs: a server that died is started again, at the same place."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.backoff import Backoff
from ledgerq_shared.embedded import EmbeddedError

if TYPE_CHECKING:
    from ledgerq_shared.embedded import EmbeddedPostgres, EmbeddedServers, EmbeddedValkey


@dataclass
class _Watched:
    name: str
    server: EmbeddedPostgres | EmbeddedValkey
    backoff: Backoff = field(default_factory=Backoff)


class Stores:
    """Looks after both servers. For the services, which know their URLs, a server that died is a store that is away."""

    def __init__(self, servers: EmbeddedServers) -> None:
        self._watched = (_Watched("PostgreSQL", servers.postgres), _Watched("Valkey", servers.valkey))

    def look_after(self) -> None:
        """Start again a server that has died, with longer and longer pauses, and with a line each time."""
        for one in self._watched:
            start_at = one.backoff.start_at
            if start_at is None:
                if one.server.has_died():
                    _tell(one, "has ended", one.backoff.ended())
            elif one.server.processes():
                one.backoff.start_at = None  # somebody else has started it
            elif time.monotonic() >= start_at:
                _start(one)


def _start(one: _Watched) -> None:
    try:
        one.server.start(same_port=True)
    except EmbeddedError as error:
        _tell(one, f"did not start again ({error})", one.backoff.put_off())
    else:
        one.backoff.started()
        print(f"ledgerq: {one.name} is there again", file=sys.stderr)


def _tell(one: _Watched, what: str, delay: float) -> None:
    print(f"ledgerq: {one.name} {what}; it starts again in {delay:g} s", file=sys.stderr)
