"""The ledger's first tables. The SQL stands beside this file, because partitions, triggers and generated columns are SQL."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    sql = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(sql.replace("%", "%%"))  # psycopg2 takes a single % for a parameter


def downgrade() -> None:
    """There is nothing before the first migration but an empty database."""
    raise RuntimeError("0001 cannot be downgraded: drop the database instead")
