"""A claim remembers that its only task is a suspect: a suspect that is handed back before it begins stays a suspect."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Only a new column with a default: older code goes on working."""
    op.get_bind().exec_driver_sql("ALTER TABLE claim ADD COLUMN alone boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """It is forgotten which tasks of the present claims are suspects."""
    op.get_bind().exec_driver_sql("ALTER TABLE claim DROP COLUMN alone")
