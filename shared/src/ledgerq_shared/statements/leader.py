"""The leader's lease: one of several maintenance processes leads."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Nothing, Statement


class LeaderRow(NamedTuple):
    """Which process leads. Times are seconds since 1970."""

    #: The time of the database's clock.
    clock: float
    #: Until when the caller leads; None: another process leads.
    until: float | None
    #: The row as it was found: which process led, and until when. None: there was no row.
    found_holder: str | None
    found_until: float | None


def take_leadership(*, name: str, holder: UUID, lease: float) -> Statement[LeaderRow]:
    """Become or stay the leader of ``name``; returns one row.

    A lease that lasts for longer than two leases is from before the database's clock was set back, so it is over.
    """
    return Statement(
        _TAKE_LEADERSHIP,
        {"name": name, "holder": str(holder), "lease": lease},
        "take_leadership",
        row=LeaderRow._make,
    )


_TAKE_LEADERSHIP = """
WITH taken AS (
  INSERT INTO leader (name, holder, until, beat_at)
  VALUES (%(name)s::text, %(holder)s::uuid, now() + %(lease)s::float8 * interval '1 second', now())
  ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, beat_at = excluded.beat_at
  WHERE leader.holder = excluded.holder OR leader.until < now()
     OR leader.until > now() + 2 * %(lease)s::float8 * interval '1 second'
  RETURNING until
)
SELECT extract(epoch FROM clock_timestamp())::float8, extract(epoch FROM taken.until)::float8,
       found.holder::text, extract(epoch FROM found.until)::float8
FROM (SELECT) one LEFT JOIN taken ON true LEFT JOIN leader found ON found.name = %(name)s::text
"""


def give_up_leadership(*, name: str, holder: UUID) -> Statement[Nothing]:
    """Give up the leadership, so that another process can lead at once."""
    return Statement(_GIVE_UP_LEADERSHIP, {"name": name, "holder": str(holder)})


_GIVE_UP_LEADERSHIP = "DELETE FROM leader WHERE name = %(name)s AND holder = %(holder)s::uuid"
