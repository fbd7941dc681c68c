"""``api_key``: who may call the API, and for what."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import CheckConstraint, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText, PlainTexts


class ApiKey(LedgerTable, table=True):
    """An API key, without the key. Never deleted: the history names it, and a ledger that had keys stays closed."""

    __tablename__: ClassVar[str] = "api_key"
    __table_args__ = (
        UniqueConstraint("sha256", name="uq_api_key_sha256"),
        CheckConstraint("octet_length(sha256) = 32", name="digest"),
        CheckConstraint("cardinality(scopes) > 0", name="some_scope"),
    )

    id: str = Field(primary_key=True, sa_type=PlainText, description="Names the key in events (`key:<id>`) and logs.")
    sha256: bytes = Field(sa_type=LargeBinary, description="SHA-256 of the key, which is random and 256 bits long.")
    name: str = Field(sa_type=Text, description="Whose it is, in the words of whoever made it; need not be unique.")
    scopes: list[str] = Field(
        sa_type=PlainTexts, description="What it may do: `tasks:read`, `tasks:submit`, `tasks:control`, `admin`."
    )
    created_at: datetime = Field(
        sa_type=Moment, sa_column_kwargs={"server_default": text("now()")}, description="When it was made."
    )
    expires_at: datetime | None = Field(sa_type=Moment, description="Not valid from then on; null: it does not expire.")
    revoked_at: datetime | None = Field(sa_type=Moment, description="Not valid since then; null: it is not revoked.")
    last_used_at: datetime | None = Field(
        sa_type=Moment, description="About when it was last used, some minutes coarse; null: never."
    )
