"""``idempotency``: which submit an Idempotency-Key belongs to."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import LargeBinary
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText


class Idempotency(LedgerTable, table=True):
    """An Idempotency-Key that was used."""

    __tablename__: ClassVar[str] = "idempotency"

    key: str = Field(primary_key=True, sa_type=PlainText, description="The key.")
    body_sha256: bytes = Field(sa_type=LargeBinary, description="SHA-256 of the request that it came with.")
    task_id: UUID = Field(description="The task that was the answer.")
    created_at: datetime = Field(sa_type=Moment, index=True, description="When; old ones are forgotten.")
