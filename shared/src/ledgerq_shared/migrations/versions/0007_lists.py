"""Lists stay fast, however many tasks wait: two tables say which tasks succeeded and which carry a tag, in the order of ids.

An index of `task` by SUCCESS would make every success a new entry in each of its indexes (no HOT update); and a GIN index
finds all tasks with a tag before it can sort them.
"""

from __future__ import annotations

from alembic import op

from ledgerq_shared.migrations.online import drop_index, fill

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Tags never change. A trigger fills the table, so that a release that does not know it fills it, too. Tasks without
# tags pay only for its WHEN.
_TABLES = """
CREATE TABLE IF NOT EXISTS task_success (task_id uuid PRIMARY KEY);
CREATE TABLE IF NOT EXISTS task_tag (
  tag     text COLLATE "C" NOT NULL,
  task_id uuid NOT NULL,
  PRIMARY KEY (tag, task_id)
);
CREATE OR REPLACE FUNCTION ledgerq_note_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO task_tag (tag, task_id) SELECT DISTINCT unnest(NEW.tags), NEW.id;
  RETURN NULL;
END $$;
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'task'::regclass AND tgname = 'tr_note_tags') THEN
    CREATE TRIGGER tr_note_tags AFTER INSERT ON task FOR EACH ROW WHEN (NEW.tags IS NOT NULL)
      EXECUTE FUNCTION ledgerq_note_tags();
  END IF;
END $$;
"""

_FILL = """
WITH page AS MATERIALIZED (
  SELECT id, state, tags FROM task WHERE id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
  ORDER BY id LIMIT %(limit)s
), succeeded AS (
  INSERT INTO task_success SELECT id FROM page WHERE state = 'SUCCESS' ORDER BY id ON CONFLICT DO NOTHING
), tagged AS (
  INSERT INTO task_tag SELECT DISTINCT unnest(tags) AS tag, id FROM page WHERE tags IS NOT NULL ORDER BY tag, id
  ON CONFLICT DO NOTHING
)
SELECT id FROM page ORDER BY id DESC LIMIT 1
"""


def upgrade() -> None:
    """New tables, filled. Older code goes on working; what an older worker records meanwhile is not listed as SUCCESS."""
    op.get_bind().exec_driver_sql(_TABLES)
    fill(_FILL)
    drop_index("ix_task_tags")


def downgrade() -> None:
    """Tasks stay; lists walk over all of them again."""
    op.get_bind().exec_driver_sql(
        "DROP TRIGGER tr_note_tags ON task; DROP FUNCTION ledgerq_note_tags(); DROP TABLE task_tag; "
        "DROP TABLE task_success; CREATE INDEX ix_task_tags ON task USING gin (tags) WHERE tags IS NOT NULL"
    )
