"""Notes that the ledger went back in time, and what was sent again."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_UPGRADE = """
CREATE TABLE went_back (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  noticed_at timestamptz NOT NULL,
  timeline   text COLLATE "C",
  before     text COLLATE "C",
  lost_since timestamptz NOT NULL,
  lost       integer NOT NULL,
  sent_again integer NOT NULL,
  noticed_by text COLLATE "C" NOT NULL
);
"""


def upgrade() -> None:
    """Only a table that older code does not know."""
    op.get_bind().exec_driver_sql(_UPGRADE)


def downgrade() -> None:
    """What is noted there is in the log, too."""
    op.get_bind().exec_driver_sql("DROP TABLE went_back")
