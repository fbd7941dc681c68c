"""Read what PostgreSQL's replication promises at this moment."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ledgerq_shared.sql import Statement

#: The figures that are read from PostgreSQL's own functions and views.
REPLICATION_FIGURES = ("timeline", "standbys", "lag_bytes")


class ReplicationRow(NamedTuple):
    """A server's promises, and one of its standbys. If it has no standby, the fields of the standby are None."""

    #: The values of ``synchronous_commit`` and ``synchronous_standby_names``.
    level: str
    names: str
    #: Rises by one with each failover; None on a standby.
    timeline: int | None
    #: Whether this role may see the standbys.
    is_told: bool
    standby: str | None
    #: This field and the following are also None for a role that is not a member of ``pg_monitor``: such a role only
    #: sees that there are standbys.
    is_streaming: bool | None
    #: PostgreSQL's word: ``sync``, ``quorum``, ``potential`` or ``async``.
    sync_state: str | None
    #: How many bytes the standby has not replayed; also None if the server does not tell.
    lag_bytes: float | None
    #: For how many seconds the standby has been behind; also None while nothing is written.
    lag_seconds: float | None


def read_replication(without: Collection[str] = ()) -> Statement[ReplicationRow]:
    """One row for each standby, one at least.

    Args:
        without: of :data:`REPLICATION_FIGURES`, what is None.
    """
    timeline = """CASE WHEN NOT pg_is_in_recovery()
                       THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END"""
    behind = "CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn) END"
    nobody = """(SELECT NULL AS application_name, NULL AS state, NULL AS sync_state, NULL::pg_lsn AS replay_lsn,
                        NULL::interval AS replay_lag, 0 AS pid)"""
    return Statement(
        f"""
        SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
               {"NULL" if "timeline" in without else timeline}, {"standbys" not in without},
               r.application_name, r.state = 'streaming', r.sync_state,
               {"NULL" if "lag_bytes" in without else behind}::float8, extract(epoch FROM r.replay_lag)::float8
        FROM (SELECT) one LEFT JOIN {nobody if "standbys" in without else "pg_stat_replication"} r ON true
        ORDER BY r.application_name, r.pid
        """,
        {},
        row=ReplicationRow._make,
    )
