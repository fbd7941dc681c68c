"""PostgreSQL's timeline, which changes with each failover and each restore to an earlier moment; and the record that is
written when the ledger has lost something that it once had.
"""

from __future__ import annotations

import psycopg2
import structlog

from ledgerq_shared.postgres.database import Cursor, Database, execute
from ledgerq_shared.postgres.sqlstates import is_not_to_be_had
from ledgerq_shared.statements.went_back import note_behind, read_timeline

log = structlog.get_logger()


class Timeline:
    """Asks for the timeline, until the server says once that it does not give it."""

    def __init__(self) -> None:
        self._is_told = True

    def read(self, cursor: Cursor) -> str | None:
        """The timeline of a server that takes writes, read by the last statement of a transaction; None: the server
        does not tell.
        """
        if not self._is_told:
            return None
        try:
            [(timeline,)] = execute(cursor, read_timeline())
        except psycopg2.Error as error:
            if not is_not_to_be_had(error):
                raise
            self._is_told = False
            log.warning("ledger.no_timeline", what="failovers are seen without it", error=error.diag.message_primary)
            return None
        return timeline

    def now(self, database: Database) -> str | None:
        """As :meth:`read`, in a transaction of its own.

        Raises:
            Unavailable: PostgreSQL is away.
        """
        with database.transaction(lasts=False) as cursor:  # it writes, so that no standby answers
            return self.read(cursor)


def write_down(database: Database, *, timeline: str | None, before: str | None, lost_for: float, by: str) -> None:
    """Record that the ledger went back in time, as a periodic writer found that misses what it wrote itself.

    Args:
        timeline, before: the timeline that is there now, and the one that was known.
        lost_for: how many seconds of writes are missing.
        by: the service that noticed.

    Raises:
        Unavailable: PostgreSQL is away, so only the log says it.
    """
    log.error("ledger.went_back", timeline=timeline, before=before, seconds=round(lost_for, 1))
    with database.transaction() as cursor:
        execute(cursor, note_behind(timeline=timeline, before=before, known_ago=lost_for, noticed_by=by))
