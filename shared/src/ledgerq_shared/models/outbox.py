"""``outbox``: what must leave after a commit and is not in the ledger itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Identity, SmallInteger, text
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText, StoredJson


class Outbox(LedgerTable, table=True):
    """Something to do after a commit; the row is deleted when it is done."""

    __tablename__: ClassVar[str] = "outbox"

    id: int | None = Field(
        default=None,
        primary_key=True,
        sa_type=BigInteger,
        sa_column_args=[Identity(always=True)],
        description="Their order.",
    )
    kind: str = Field(
        sa_type=PlainText,
        description="`message`: send this Celery message; `outcome`: tell Celery how a task ended.",
    )
    payload: Any = Field(sa_type=StoredJson, nullable=False, description="What to do it with, a JSON object.")
    created_at: datetime = Field(
        sa_type=Moment, description="When; one that is seconds old was left behind by a death."
    )
    attempts: int = Field(
        sa_type=SmallInteger,
        sa_column_kwargs={"server_default": text("0")},
        description="How often somebody has begun it.",
    )
    taken_until: datetime | None = Field(
        sa_type=Moment, description="Until when whoever has begun it has it; null: nobody has."
    )
