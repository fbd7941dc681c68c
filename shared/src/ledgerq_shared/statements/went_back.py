"""Find out whether the ledger has lost something that it once had, after an asynchronous failover or a restore."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ledgerq_shared.sql import Nothing, Statement
from ledgerq_shared.statements.arrays import id_array


def read_timeline() -> Statement[tuple[str]]:
    """The primary's timeline. Some databases that call themselves PostgreSQL refuse to tell it."""
    return Statement("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)", {})


def count_found(ids: Sequence[UUID]) -> Statement[tuple[int]]:
    """Returns how many of these tasks are there."""
    return Statement("SELECT count(*) FROM task WHERE id = ANY (%(id)s::uuid[])", {"id": id_array(ids)})


def find_missing(ids: Sequence[UUID]) -> Statement[tuple[str]]:
    """Returns the ids of those that are not there."""
    return Statement(
        """
        SELECT i.id::text FROM unnest(%(id)s::uuid[]) AS i(id) WHERE NOT EXISTS (SELECT FROM task t WHERE t.id = i.id)
        """,
        {"id": id_array(ids)},
    )


def note_went_back(
    *, timeline: str | None, before: str | None, known_ago: float, lost: int, sent_again: int, noticed_by: str
) -> Statement[Nothing]:
    """Record that the ledger went back in time.

    Args:
        timeline, before: the one that is found, and the one that was known.
        known_ago: how many seconds ago the oldest missing task was accepted.
        lost: how many tasks were missing.
        sent_again: how many of them were sent again.
        noticed_by: the service.
    """
    return Statement(
        _NOTE_WENT_BACK,
        {
            "timeline": timeline,
            "before": before,
            "known_ago": known_ago,
            "lost": lost,
            "sent_again": sent_again,
            "noticed_by": noticed_by,
        },
    )


_NOTE_WENT_BACK = """
INSERT INTO went_back (noticed_at, timeline, before, lost_since, lost, sent_again, noticed_by)
VALUES (clock_timestamp(), %(timeline)s, %(before)s,
        clock_timestamp() - %(known_ago)s::float8 * interval '1 second', %(lost)s, %(sent_again)s, %(noticed_by)s)
"""


def note_behind(*, timeline: str | None, before: str | None, known_ago: float, noticed_by: str) -> Statement[Nothing]:
    """Record that the ledger went back in time, for a process that knows no ids of missing tasks; unless another
    process has just recorded it.

    Args:
        timeline, before: the one that is found, and the one that was known.
        known_ago: how many seconds ago the missing writes began.
        noticed_by: the service.
    """
    return Statement(
        _NOTE_BEHIND,
        {"timeline": timeline, "before": before, "known_ago": known_ago, "noticed_by": noticed_by},
    )


_NOTE_BEHIND = """
INSERT INTO went_back (noticed_at, timeline, before, lost_since, lost, sent_again, noticed_by)
SELECT clock_timestamp(), %(timeline)s, %(before)s,
       clock_timestamp() - %(known_ago)s::float8 * interval '1 second', 0, 0, %(noticed_by)s
WHERE NOT EXISTS (
  SELECT FROM went_back WHERE noticed_at > clock_timestamp() - interval '1 minute'
    AND timeline IS NOT DISTINCT FROM %(timeline)s
)
"""
