"""What a standby shows: of which ledger, and of what time."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ledgerq_shared.sql import Statement

#: What time it is in what this server shows, by the primary's clock: on a standby, when the leader of maintenance was last
#: there. All that was committed before that is there, too: the log is replayed in its order.
THEN = """(SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(
  (SELECT beat_at FROM leader WHERE name = 'maintenance'), now()) ELSE now() END)"""

#: Condition on a row of ``worker``: it was live then. (A lease that is renewed every few seconds is over on every standby
#: that is a little behind, if one asks for the time now.)
WAS_LIVE = f"ended_at IS NULL AND lease_until > {THEN}"

#: Which cluster, which database of it, and which table (null: there is none): a standby's are its primary's.
_IDENTITY = """(SELECT c.system_identifier::text || '/' || d.oid::text
  FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()), to_regclass('leader')::oid::bigint"""


class Identity(NamedTuple):
    """Of which ledger a server is."""

    #: The cluster and the database in it, of which a standby has its primary's.
    identity: str
    #: The number of a table that is read; None: there is none yet.
    table: int | None
    #: The server's time, in seconds since 1970.
    clock: float


class ReplicaAge(NamedTuple):
    """Which ledger a replica shows, and as of when."""

    #: As in :class:`Identity`.
    identity: str
    table: int | None
    is_standby: bool
    #: When the leader of maintenance was last there, by the primary's clock; None: nobody leads.
    beat_at: datetime | None


def read_identity() -> Statement[Identity]:
    """One row."""
    return Statement(f"SELECT {_IDENTITY}, extract(epoch FROM clock_timestamp())::float8", {}, row=Identity._make)


def read_age() -> Statement[ReplicaAge]:
    """One row."""
    return Statement(
        f"SELECT {_IDENTITY}, pg_is_in_recovery(), (SELECT beat_at FROM leader WHERE name = 'maintenance')",
        {},
        row=ReplicaAge._make,
    )
