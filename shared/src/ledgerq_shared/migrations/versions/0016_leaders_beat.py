"""Says when the leader was last there: what a replica shows is as old as this time."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Older code leaves it as it is: then nobody knows how old a replica is, and it is not used."""
    op.get_bind().exec_driver_sql("ALTER TABLE leader ADD COLUMN beat_at timestamptz")


def downgrade() -> None:
    """Nothing is lost, but replicas are not used."""
    op.get_bind().exec_driver_sql("ALTER TABLE leader DROP COLUMN beat_at")
