"""Says of a node which of its task types must not run a second time if their Celery message was adopted."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Older code leaves it NULL: the tasks of its nodes run again, as before."""
    op.get_bind().exec_driver_sql('ALTER TABLE worker ADD COLUMN acknowledged text[] COLLATE "C"')


def downgrade() -> None:
    """Nothing is lost, but tasks run again."""
    op.get_bind().exec_driver_sql("ALTER TABLE worker DROP COLUMN acknowledged")
