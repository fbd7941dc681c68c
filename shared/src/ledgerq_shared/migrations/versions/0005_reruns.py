"""From a task, the tasks that repeat it can be found."""

from __future__ import annotations

from alembic import op

from ledgerq_shared.migrations.online import build_index

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Only an index, of the few tasks that repeat another: older code goes on working."""
    build_index("ix_task_rerun_of", "task (rerun_of, id) WHERE rerun_of IS NOT NULL")


def downgrade() -> None:
    """Nothing is lost."""
    op.get_bind().exec_driver_sql("DROP INDEX ix_task_rerun_of")
