"""Which request a task came from, and an index of the few tasks that a worker died with."""

from __future__ import annotations

from alembic import op

from ledgerq_shared.migrations.online import build_index

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Only a new column and an index: older code goes on working."""
    op.get_bind().exec_driver_sql('ALTER TABLE task ADD COLUMN IF NOT EXISTS trace text COLLATE "C"')
    # It does not hurt HOT updates: `worker_deaths` changes only when a worker has died.
    build_index("ix_task_worker_deaths", "task (id) WHERE worker_deaths > 0")


def downgrade() -> None:
    """Tasks stay; where they came from is forgotten."""
    op.get_bind().exec_driver_sql("DROP INDEX ix_task_worker_deaths; ALTER TABLE task DROP COLUMN trace")
