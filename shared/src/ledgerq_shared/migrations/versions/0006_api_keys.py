"""API keys: who may call the API, and for what. Only digests are kept: a key is shown once, when it is made."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Revoked keys stay: their ids stand in the history, and a ledger that once had keys never becomes open again.
_UPGRADE = """
CREATE TABLE api_key (
  id           text COLLATE "C" PRIMARY KEY,
  sha256       bytea NOT NULL,
  name         text NOT NULL,
  scopes       text[] COLLATE "C" NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz,
  revoked_at   timestamptz,
  last_used_at timestamptz,
  CONSTRAINT uq_api_key_sha256 UNIQUE (sha256),
  CONSTRAINT ck_api_key_digest CHECK (octet_length(sha256) = 32),
  CONSTRAINT ck_api_key_some_scope CHECK (cardinality(scopes) > 0)
);
"""


def upgrade() -> None:
    """Only a new table: older code goes on working."""
    op.get_bind().exec_driver_sql(_UPGRADE)


def downgrade() -> None:
    """Keys are forgotten; the API is open on loopback again."""
    op.get_bind().exec_driver_sql("DROP TABLE api_key")
