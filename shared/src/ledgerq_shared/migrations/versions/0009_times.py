"""A column for the time of a task's latest event, if no other column has that time. So histories do not run backwards."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The column is NULL in existing rows and in those that older code writes: then this time is not known."""
    op.get_bind().exec_driver_sql("ALTER TABLE task ADD COLUMN noted_at timestamptz")


def downgrade() -> None:
    """Forget it."""
    op.get_bind().exec_driver_sql("ALTER TABLE task DROP COLUMN noted_at")
