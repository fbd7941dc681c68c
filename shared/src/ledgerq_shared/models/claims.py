"""``claim``: who holds which tasks."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Sequence, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText, tables

CLAIM_NO = Sequence("claim_no", metadata=tables())


class TaskIds(ARRAY[UUID]):
    """An array of task ids."""

    def __init__(self) -> None:
        super().__init__(Uuid())


class Claim(LedgerTable, table=True):
    """One batch of tasks that one slot holds. A write about a task that is not on the list is refused."""

    __tablename__: ClassVar[str] = "claim"
    __table_args__ = {"postgresql_with": {"fillfactor": 50}}  # noqa: RUF012 - as SQLAlchemy wants it

    no: int = Field(
        primary_key=True,
        sa_type=BigInteger,
        sa_column_kwargs={"server_default": CLAIM_NO.next_value(), "autoincrement": False},
        description="The number that guards every write; never used twice.",
    )
    worker_id: UUID = Field(index=True, description="The worker node, as it is registered.")
    slot: int = Field(description="Index in that worker's slot table.")
    queue: str = Field(sa_type=PlainText, description="The queue that was claimed from.")
    claimed_at: datetime = Field(sa_type=Moment, description="When; this is `dispatched` in the tasks' histories.")
    task_ids: list[UUID] = Field(sa_type=TaskIds, nullable=False, description="What the claim still holds.")
    cancelled: list[UUID] = Field(
        sa_type=TaskIds,
        nullable=False,
        sa_column_kwargs={"server_default": text("'{}'")},
        description="Those whose cancellation was requested; may name some that have left the list.",
    )
    alone: bool = Field(
        sa_column_kwargs={"server_default": text("false")},
        description="Its one task may have killed a worker: nothing else runs in that process meanwhile.",
    )
