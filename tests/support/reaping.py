"""The reaper by itself: no maintenance process, a PostgreSQL that has answered for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledgerq_worker.maintenance.reaper import Reap

if TYPE_CHECKING:
    from ledgerq_shared.postgres.database import Database


class _Reachable:
    """PostgreSQL has answered for ever."""

    def reachable_for(self) -> float:
        """Seconds."""
        return float("inf")


def reaper(database: Database, *, quarantine_after: int = 3) -> Reap:
    """A reaper that looks when it is told to."""
    return Reap(
        database, _Reachable(), every=1.0, lease=10.0, quarantine_after=quarantine_after  # type: ignore[arg-type]
    )  # fmt: skip
