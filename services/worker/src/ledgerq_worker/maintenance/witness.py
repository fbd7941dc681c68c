"""Whether the ledger is behind what it once had, by the leader's row: who leads renews it, who may lead reads it.

A renewal lasts as an accepted task does. So a row that is older than one that was seen before says that commits are gone,
tasks perhaps among them: an asynchronous failover, or a restore.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from ledgerq_shared.database import Database
from ledgerq_shared.timeline import Timeline, write_down


class Seen(NamedTuple):
    """The leader's row, as it was left by one look at it. Times of the database's clock are seconds since 1970."""

    holder: str | None
    until: float
    #: What the database's clock said.
    clock: float
    #: When it was asked and when it had answered, by the monotonic clock.
    began: float
    ended: float


def is_older(found: Seen, last: Seen) -> bool:
    """Whether the row that is found now was written before the one that was seen last.

    Whoever writes it after a look leaves a time beyond the clock of that look, and whoever writes it twice a later one,
    unless the clock was set back in between: by so much it may be earlier.
    """
    if last.holder is None or found.holder is None or (found.holder, found.until) == (last.holder, last.until):
        return False  # nobody had it, or somebody has given it up
    set_back = max(0.0, (found.began - last.ended) - (found.clock - last.clock))
    least = last.until if found.holder == last.holder else last.clock
    return found.until < least - set_back


class Witness:
    """Remembers the row, and writes down when an older one is found.

    Args:
        lease: seconds for which the row is written.
    """

    def __init__(self, database: Database, *, lease: float) -> None:
        self._database = database
        self._lease = lease
        self._timeline = Timeline()
        self._known: str | None = None
        self._last: Seen | None = None
        #: Since when what was written is gone, by the monotonic clock, and it is not written down yet; null: nothing is.
        self._lost_since: float | None = None

    def connected(self) -> None:
        """PostgreSQL answers, for the first time or again: its timeline may be another."""
        self._known = self._timeline.now(self._database)

    def compare(self, found: Seen, left: Seen) -> None:
        """Look at the row as it was found.

        Args:
            left: as it is now.

        Raises:
            Unavailable: it could not be written down; it will be after the next look.
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
