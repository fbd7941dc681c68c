"""How many standbys have a commit when PostgreSQL confirms it, and whether these are as many as the operator
demands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ledgerq_shared.errors import Unavailable
from ledgerq_shared.languages import Said, say
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.postgres.figures import Figures
from ledgerq_shared.settings import SettingsError
from ledgerq_shared.statements.read_replication import REPLICATION_FIGURES, ReplicationRow, read_replication

#: Levels of ``synchronous_commit`` at which a standby has the commit on its disk before the client is told.
_WAITING = ("on", "remote_apply")
_COUNTED = re.compile(r"\s*(?:(?:FIRST|ANY)\s+)?(\d+)\s*\(", re.IGNORECASE)


class Standby(NamedTuple):
    """A server that follows the primary."""

    name: str
    is_streaming: bool
    #: PostgreSQL's word: ``sync``, ``quorum``, ``potential`` or ``async``.
    sync_state: str
    #: How much it has not replayed yet, in bytes; None: the server does not tell.
    lag_bytes: float | None
    #: For how long it has been behind, in seconds.
    lag_seconds: float


@dataclass(frozen=True)
class Durability:
    """What the server promises now to sessions of this role."""

    #: The value of ``synchronous_commit``.
    level: str
    #: The value of ``synchronous_standby_names``.
    names: str
    #: Rises by one with each failover; None on a standby.
    timeline: int | None
    #: None: this role may not see them.
    standbys: list[Standby] | None

    @classmethod
    def of(cls, rows: Sequence[ReplicationRow]) -> Durability:
        """Made from the rows of :func:`read_replication`."""
        server, found = rows[0], sum(row.standby is not None for row in rows)
        seen = [
            Standby(row.standby, bool(row.is_streaming), row.sync_state, row.lag_bytes, row.lag_seconds or 0.0)
            for row in rows
            if row.standby is not None and row.sync_state is not None
        ]
        are_told = server.is_told and len(seen) == found
        return cls(server.level, server.names, server.timeline, seen if are_told else None)

    @property
    def demanded(self) -> int:
        """How many standbys each commit waits for."""
        if self.level not in _WAITING or not self.names.strip():
            return 0
        counted = _COUNTED.match(self.names)
        return int(counted[1]) if counted else 1

    @property
    def confirming(self) -> int:
        """How many standbys certainly have a commit that is made now; while these are fewer than demanded, commits
        wait.
        """
        if self.standbys is None:
            return self.demanded
        there = sum(one.is_streaming and one.sync_state in ("sync", "quorum") for one in self.standbys)
        return min(self.demanded, there)

    def lacks(self, required: int) -> Said | None:
        """The message if that is fewer than ``required``; None: it is enough."""
        if required == 0 or self.confirming >= required:
            return None
        if self.level not in _WAITING:
            return say(
                "LEDGERQ_REQUIRE_SYNC={required}: synchronous_commit is '{level}' for this role and database, so PostgreSQL "
                "waits for no standby's disk: set it to 'on' or 'remote_apply'",
                required=required,
                level=self.level,
            )
        if self.demanded < required:
            return say(
                "LEDGERQ_REQUIRE_SYNC={required}: synchronous_standby_names is '{names}', so a commit waits for {demanded} "
                "standbys: set it to 'ANY {required} (…)', or let Patroni do so (synchronous_node_count)",
                required=required,
                names=self.names,
                demanded=self.demanded,
            )
        return say(
            "LEDGERQ_REQUIRE_SYNC={required}: only {confirming} of the standbys that synchronous_standby_names "
            "('{names}') names follow at this moment: bring them back",
            required=required,
            confirming=self.confirming,
            names=self.names,
        )


def replication_figures() -> Figures[ReplicationRow]:
    """Reads rows for :meth:`Durability.of`."""
    return Figures(read_replication, REPLICATION_FIGURES)


def look(database: Database) -> Durability:
    """What the server promises now.

    Raises:
        LedgerUnavailable: PostgreSQL is away.
    """
    with database.transaction(writes=False) as cursor:
        return Durability.of(replication_figures().fetch(cursor))


def check_durability(database: Database, required: int) -> None:
    """Refuse to work where PostgreSQL confirms commits that fewer standbys have than the operator demands.

    Raises:
        SettingsError: they are fewer.
    """
    if not required:
        return
    try:
        found = look(database)
    except Unavailable:
        return  # the service waits for it, as it does when it starts before PostgreSQL; the monitor goes on comparing
    if lacks := found.lacks(required):
        raise SettingsError(lacks)
