"""``idempotency`` and ``unique_key``: what keeps a submit from being done twice."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Index, LargeBinary, PrimaryKeyConstraint, Text, text
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText


class Idempotency(LedgerTable, table=True):
    """An Idempotency-Key that was used."""

    __tablename__: ClassVar[str] = "idempotency"

    key: str = Field(primary_key=True, sa_type=PlainText, description="The key.")
    body_sha256: bytes = Field(sa_type=LargeBinary, description="SHA-256 of the request that it came with.")
    task_id: UUID = Field(description="The task that was the answer; of a batch, its first.")
    created_at: datetime = Field(sa_type=Moment, index=True, description="When; old ones are forgotten.")
    answer: str | None = Field(sa_type=Text, description="What a batch was answered, as JSON; null: a single submit.")
    owner: str | None = Field(
        sa_type=PlainText,
        description="Who used it (`key:<id>`, `api`); null: an older release wrote it. Who finds a name used by "
        "somebody else has it as `<key>\\n<owner>`.",
    )


class UniqueKey(LedgerTable, table=True):
    """A unique key that is taken. Deleted by the statement that ends the task, or when its time is over."""

    __tablename__: ClassVar[str] = "unique_key"
    __table_args__ = (
        PrimaryKeyConstraint("key", name="uq_unique_key_key"),
        Index("ix_unique_key_until", "until", postgresql_where=text("until IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 70}},
    )

    key: str = Field(primary_key=True, sa_type=PlainText, description="The key; one name space for all task types.")
    task_id: UUID = Field(description="The task that holds it.")
    until: datetime | None = Field(sa_type=Moment, description="Held until then; null: until the task is final.")
