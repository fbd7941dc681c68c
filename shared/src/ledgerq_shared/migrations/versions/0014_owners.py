"""Says to whom an Idempotency-Key belongs, and who was the first to name a queue."""

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
    """Only columns that older code leaves NULL; the table of queues is small."""
    op.get_bind().exec_driver_sql(_UPGRADE)


def downgrade() -> None:
    """Nobody finds the keys any more that were stored apart for their owners; they are deleted in time."""
    op.get_bind().exec_driver_sql("ALTER TABLE queue DROP COLUMN made_by; ALTER TABLE idempotency DROP COLUMN owner")
