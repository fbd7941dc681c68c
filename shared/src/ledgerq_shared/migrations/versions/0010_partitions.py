"""Partitions of the event log are attached: that waits for no reader of the log but of its default partition, and not for
long; and for nothing that reads it, as it is done only while the default partition is small.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Older code calls this function, too.
_UPGRADE = r"""
CREATE FUNCTION ledgerq_event_ranges() RETURNS TABLE (since timestamptz, until timestamptz) STABLE LANGUAGE sql AS $$
  SELECT bounds[1]::timestamptz, bounds[2]::timestamptz
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), '\(''(.+)''\) TO \(''(.+)''\)') AS bounds
  WHERE i.inhparent = 'task_event'::regclass AND bounds IS NOT NULL
$$;
CREATE OR REPLACE FUNCTION ledgerq_make_event_partition(day date) RETURNS boolean LANGUAGE plpgsql
SET lock_timeout = '500ms' AS $$
DECLARE
  name text := 'task_event_' || to_char(day, 'YYYYMMDD');
  first timestamptz := day::timestamp AT TIME ZONE 'UTC';
  next timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
  IF EXISTS (SELECT FROM ledgerq_event_ranges() r WHERE r.since < next AND r.until > first) THEN
    RETURN false;
  END IF;
  IF pg_relation_size('task_event_default') > 16000000 THEN
    RAISE EXCEPTION 'task_event_default is too large to be read under a lock' USING ERRCODE = 'lock_not_available';
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE task_event INCLUDING DEFAULTS)', name);
  PERFORM ledgerq_protect_events(name::regclass);
  EXECUTE format('ALTER TABLE task_event ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, first, next);
  RETURN true;
END $$;
"""

_DOWNGRADE = """
CREATE OR REPLACE FUNCTION ledgerq_make_event_partition(day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  name text := 'task_event_' || to_char(day, 'YYYYMMDD');
BEGIN
  IF to_regclass(name) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE %I PARTITION OF task_event FOR VALUES FROM (%L) TO (%L)', name,
                 day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
  PERFORM ledgerq_protect_events(name::regclass);
  RETURN true;
END $$;
DROP FUNCTION ledgerq_event_ranges();
"""


def upgrade() -> None:
    """Only functions: older code goes on working."""
    op.get_bind().exec_driver_sql(_UPGRADE.replace("%", "%%"))


def downgrade() -> None:
    """Partitions stay."""
    op.get_bind().exec_driver_sql(_DOWNGRADE.replace("%", "%%"))
