"""Read which ledger a standby shows, and up to what time."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ledgerq_shared.sql import Statement

#: The time up to which this server shows the ledger, by the primary's clock. On a standby this is the last beat of the
#: leader of maintenance: everything that was committed before that is there, too, because the log is replayed in its
#: order.
THEN = """(SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(
  (SELECT beat_at FROM leader WHERE name = 'maintenance'), now()) ELSE now() END)"""

#: Condition on a row of ``worker``: it was live at that time. (Compared with the present time, a lease that is renewed
#: every few seconds would be over on every standby that is a little behind.)
WAS_LIVE = f"ended_at IS NULL AND lease_until > {THEN}"

#: Which cluster, which database in it, and which table (null: there is none); a standby has the same values as its
#: primary.
_IDENTITY = """(SELECT c.system_identifier::text || '/' || d.oid::text
  FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()), to_regclass('leader')::oid::bigint"""


class Identity(NamedTuple):
    """Which ledger a server has."""

    #: The cluster and the database in it; a standby has the same values as its primary.
    identity: str
    #: The number (OID) of a table that is read; None: the table does not exist yet.
    table: int | None
    #: The server's time, in seconds since 1970.
    clock: float


class ReplicaAge(NamedTuple):
    """Which ledger a replica shows, and up to what time."""

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
