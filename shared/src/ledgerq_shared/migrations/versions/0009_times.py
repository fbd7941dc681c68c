"""When the latest event of a task happened that no other column tells the time of: histories do not run backwards."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Null for all tasks that there are, and for what older code goes on to write: then nothing more is known."""
    op.get_bind().exec_driver_sql("ALTER TABLE task ADD COLUMN noted_at timestamptz")


def downgrade() -> None:
    """Forget it."""
    op.get_bind().exec_driver_sql("ALTER TABLE task DROP COLUMN noted_at")
