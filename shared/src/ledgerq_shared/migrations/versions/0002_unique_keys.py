"""Unique keys: at most one unfinished task for each, held by a row whose primary key alone decides a race. Beside
them: what a batch was answered under its Idempotency-Key, because a batch has no single task that could be the
answer.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A row is updated whenever a submit meets a key that is taken. With room on its page, that stays a HOT update.
_UPGRADE = """
ALTER TABLE task ADD COLUMN unique_key text COLLATE "C";
ALTER TABLE idempotency ADD COLUMN answer text;
CREATE TABLE unique_key (
  key     text COLLATE "C",
  task_id uuid NOT NULL,
  until   timestamptz,
  CONSTRAINT uq_unique_key_key PRIMARY KEY (key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX ix_unique_key_until ON unique_key (until) WHERE until IS NOT NULL;
"""


def upgrade() -> None:
    """Only new columns and a new table: older code goes on working."""
    op.get_bind().exec_driver_sql(_UPGRADE)


def downgrade() -> None:
    """Keys are forgotten; tasks stay."""
    op.get_bind().exec_driver_sql(
        "DROP TABLE unique_key; ALTER TABLE task DROP COLUMN unique_key; ALTER TABLE idempotency DROP COLUMN answer"
    )
