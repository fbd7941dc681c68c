"""``went_back``: a row for each time that the ledger had lost something that it once had."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, Identity
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText


class WentBack(LedgerTable, table=True):
    """One such time, after an asynchronous failover or a restore."""

    __tablename__: ClassVar[str] = "went_back"

    id: int | None = Field(
        default=None,
        primary_key=True,
        sa_type=BigInteger,
        sa_column_args=[Identity(always=True)],
        description="Their order.",
    )
    noticed_at: datetime = Field(sa_type=Moment, description="When it was noticed.")
    timeline: str | None = Field(sa_type=PlainText, description="PostgreSQL's timeline then; null: it does not say.")
    before: str | None = Field(sa_type=PlainText, description="The one that was known before; null: none was.")
    lost_since: datetime = Field(sa_type=Moment, description="When the oldest was written that was missing.")
    lost: int = Field(
        description="How many accepted tasks were missing, of those that whoever noticed still knew: an API process."
    )
    sent_again: int = Field(description="How many of them are there again, under the same ids.")
    noticed_by: str = Field(sa_type=PlainText, description="The service.")
