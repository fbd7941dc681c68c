"""Finds out, by the leader's row, whether the ledger has lost something that it once had: the leader renews the row,
and processes that may lead read it.

A renewal is as durable as an accepted task. So if the row is older than it was at an earlier look, commits are gone,
perhaps with tasks among them: there was an asynchronous failover or a restore.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from ledgerq_shared.postgres.database import Database
from ledgerq_shared.postgres.timeline import Timeline, write_down


class Seen(NamedTuple):
    """The leader's row as one look left it. Times of the database's clock are seconds since 1970."""

    holder: str | None
    until: float
    #: The time of the database's clock.
    clock: float
    #: When the database was asked and when it had answered, by the monotonic clock.
    began: float
    ended: float


def is_older(found: Seen, last: Seen) -> bool:
    """Whether the row that is found now was written before the row that was seen last.

    A process that writes the row after a look leaves a time later than the clock at that look, and each further write
    leaves a later time. If the clock was set back in between, the time may be earlier by as much.
    """
    if last.holder is None or found.holder is None or (found.holder, found.until) == (last.holder, last.until):
        return False  # no process led, or the leader has given up
    set_back = max(0.0, (found.began - last.ended) - (found.clock - last.clock))
    least = last.until if found.holder == last.holder else last.clock
    return found.until < least - set_back


class Witness:
    """Remembers the row, and records it when an older row is found.

    Args:
        lease: seconds for which the row is written.
    """

    def __init__(self, database: Database, *, lease: float) -> None:
        self._database = database
        self._lease = lease
        self._timeline = Timeline()
        self._known: str | None = None
        self._last: Seen | None = None
        #: Since when writes have been missing, by the monotonic clock, while this is not recorded yet; None: none are
        #: missing.
        self._lost_since: float | None = None

    def connected(self) -> None:
        """Note that PostgreSQL answers, for the first time or again: its timeline may have changed."""
        self._known = self._timeline.now(self._database)

    def compare(self, found: Seen, left: Seen) -> None:
        """Compare the row that was found with the one that was seen last.

        Args:
            left: the row as it is now.

        Raises:
            Unavailable: the loss could not be recorded; it will be recorded after the next look.
        """
        if self._last is not None and self._lost_since is None and is_older(found, self._last):
            written_ago = max(0.0, found.clock - (found.until - self._lease))
            self._lost_since = time.monotonic() - written_ago
        self._last = left
        if self._lost_since is not None:
            self._write_down(time.monotonic() - self._lost_since)
            self._lost_since = None

    def _write_down(self, lost_for: float) -> None:
        timeline = self._timeline.now(self._database)
        write_down(self._database, timeline=timeline, before=self._known, lost_for=lost_for, by="maintenance")
        self._known = timeline
