"""Whose an Idempotency-Key is, and who has named a queue first."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_UPGRADE = """
ALTER TABLE idempotency ADD COLUMN owner text COLLATE "C";
ALTER TABLE queue ADD COLUMN made_by text COLLATE "C";
CREATE INDEX ix_queue_made_by ON queue (made_by);
"""


def upgrade() -> None:
    """Only columns that older code leaves null; the table of queues is small."""
    op.get_bind().exec_driver_sql(_UPGRADE)


def downgrade() -> None:
    """What lies apart is found by nobody any more; it is forgotten in time."""
    op.get_bind().exec_driver_sql("ALTER TABLE queue DROP COLUMN made_by; ALTER TABLE idempotency DROP COLUMN owner")
