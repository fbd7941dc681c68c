"""What PostgreSQL's replication promises at this moment."""

from __future__ import annotations

from ledgerq_shared.sql import Statement


def read_replication() -> Statement:
    """Rows ``(synchronous_commit, synchronous_standby_names, timeline, standby, is_streaming, sync_state, lag_bytes,
    lag_seconds)``: one for each standby, or one with nulls.

    ``timeline`` is null on a standby. A role that is no member of ``pg_monitor`` sees that there are standbys and nothing
    else of them. ``lag_seconds`` is null while nothing is written.
    """
    return Statement(
        """
        SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
               CASE WHEN NOT pg_is_in_recovery()
                    THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END,
               r.application_name, r.state = 'streaming', r.sync_state,
               CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn) END::float8,
               extract(epoch FROM r.replay_lag)::float8
        FROM (SELECT) one LEFT JOIN pg_stat_replication r ON true
        ORDER BY r.application_name, r.pid
        """,
        {},
    )
