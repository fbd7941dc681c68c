"""Makes room for what operators do to databases: they publish all tables (then nobody can delete from a table without a
key), and restore data alone.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# A row of `task_count` is identified only by all of its columns. This costs nothing where nobody publishes the table.
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
    """As before; nobody can delete from these tables any more if all tables are published."""
    op.get_bind().exec_driver_sql(_DOWNGRADE)
