"""What PostgreSQL's replication promises at this moment."""

from __future__ import annotations

from collections.abc import Collection

from ledgerq_shared.sql import Statement

#: What PostgreSQL's own functions and views are asked for.
REPLICATION_FIGURES = ("timeline", "standbys", "lag_bytes")


def read_replication(without: Collection[str] = ()) -> Statement:
    """Rows ``(synchronous_commit, synchronous_standby_names, timeline, is_told, standby, is_streaming, sync_state,
    lag_bytes, lag_seconds)``: one for each standby, or one with nulls.

    ``timeline`` is null on a standby; ``is_told`` says whether standbys are. A role that is no member of ``pg_monitor``
    sees that there are standbys and nothing else of them. ``lag_seconds`` is null while nothing is written.

    Args:
        without: of :data:`REPLICATION_FIGURES`, what is null.
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
    )
