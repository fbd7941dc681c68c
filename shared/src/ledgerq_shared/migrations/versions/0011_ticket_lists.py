"""Says which nodes take tickets from lists of their own. Nodes of older releases look in the list that has the queue's
name.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column that an older release leaves false, which is right."""
    op.get_bind().exec_driver_sql("ALTER TABLE worker ADD COLUMN ticket_lists boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Older releases send tickets to the queues' own lists."""
    op.get_bind().exec_driver_sql("ALTER TABLE worker DROP COLUMN ticket_lists")
