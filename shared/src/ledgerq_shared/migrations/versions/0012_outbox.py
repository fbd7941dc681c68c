"""An entry of the outbox is taken for a limited time and a limited number of times, instead of in a transaction that
stays open.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Only new columns with defaults: older code goes on working, and may do once more what newer code is doing."""
    op.get_bind().exec_driver_sql(
        "ALTER TABLE outbox ADD COLUMN attempts smallint NOT NULL DEFAULT 0, ADD COLUMN taken_until timestamptz"
    )


def downgrade() -> None:
    """What is being done at the moment may be done once more."""
    op.get_bind().exec_driver_sql("ALTER TABLE outbox DROP COLUMN attempts, DROP COLUMN taken_until")
