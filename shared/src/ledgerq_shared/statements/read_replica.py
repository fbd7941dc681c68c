"""What a standby shows: of which ledger, and of what time."""

from __future__ import annotations

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


def read_identity() -> Statement:
    """Row ``(identity, table, clock)``: of which ledger a server is; and its time in seconds."""
    return Statement(f"SELECT {_IDENTITY}, extract(epoch FROM clock_timestamp())::float8", {})


def read_age() -> Statement:
    """Row ``(identity, table, is_standby, beat_at)`` of a replica; ``beat_at`` is null where nobody leads maintenance."""
    return Statement(
        f"SELECT {_IDENTITY}, pg_is_in_recovery(), (SELECT beat_at FROM leader WHERE name = 'maintenance')", {}
    )
