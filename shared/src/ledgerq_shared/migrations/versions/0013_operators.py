"""What operators do to databases: publish all tables (a table without a key then lets nobody delete), restore data alone."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Rows of `task_count` have no identity but all that they say. It costs nothing where nobody publishes the table.
_UPGRADE = """
ALTER TABLE task_count REPLICA IDENTITY FULL;
CREATE OR REPLACE FUNCTION ledgerq_note_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Only a restore has no search path; it brings the rows of task_tag by itself.
  IF current_setting('search_path') <> '' THEN
    INSERT INTO task_tag (tag, task_id) SELECT DISTINCT unnest(NEW.tags), NEW.id;
  END IF;
  RETURN NULL;
END $$;
"""

_DOWNGRADE = """
ALTER TABLE task_count REPLICA IDENTITY DEFAULT;
CREATE OR REPLACE FUNCTION ledgerq_note_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO task_tag (tag, task_id) SELECT DISTINCT unnest(NEW.tags), NEW.id;
  RETURN NULL;
END $$;
"""


def upgrade() -> None:
    """Older code goes on working."""
    op.get_bind().exec_driver_sql(_UPGRADE)


def downgrade() -> None:
    """As before, with what that means for who publishes all tables."""
    op.get_bind().exec_driver_sql(_DOWNGRADE)
