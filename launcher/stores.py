"""The embedded servers while everything runs: a server that died is started again, at the same place."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.backoff import Backoff
from ledgerq_shared.embedded import EmbeddedError
from ledgerq_shared.languages import say
from ledgerq_shared.process.commands import complain

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
                    delay = one.backoff.ended()
                    said = say("{server} has ended; it starts again in {seconds:g} s", server=one.name, seconds=delay)
                    complain("ledgerq", said)
            elif one.server.processes():
                one.backoff.start_at = None  # somebody else has started it
            elif time.monotonic() >= start_at:
                _start(one)


def _start(one: _Watched) -> None:
    try:
        one.server.start(same_port=True)
    except EmbeddedError as error:
        text = say(
            "{server} did not start again ({error}); the next try is in {seconds:g} s",
            server=one.name,
            error=error,
            seconds=one.backoff.put_off(),
        )
        complain("ledgerq", text)
    else:
        one.backoff.started()
        complain("ledgerq", say("{server} is there again", server=one.name))
