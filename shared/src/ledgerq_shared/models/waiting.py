"""``ready`` and ``held``: tasks that wait.

Every unfinished task is in exactly one of ``ready``, ``held`` and a claim.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, SmallInteger, text
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText


class Ready(LedgerTable, table=True):
    """A task that may run now. The claim deletes the row."""

    __tablename__: ClassVar[str] = "ready"
    __table_args__ = (
        Index("ix_ready_order", "queue", "priority", "run_at", "task_id"),
        Index("ix_ready_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    task_id: UUID = Field(primary_key=True, description="The task.")
    queue: str = Field(sa_type=PlainText, description="The task's queue.")
    priority: int = Field(sa_type=SmallInteger, description="0 to 9; 9 runs first.")
    run_at: datetime = Field(
        sa_type=Moment, description="Its place among those of its priority: since when it may run."
    )
    task_type: str = Field(sa_type=PlainText, description="The task's type, for the size of a claim.")
    alone: bool = Field(
        sa_column_kwargs={"server_default": text("false")},
        description="A suspect after a worker's death: claimed by itself.",
    )
    expires_at: datetime | None = Field(sa_type=Moment, description="Not to be begun after this; null: never expires.")


class Held(LedgerTable, table=True):
    """A task that waits for something other than a worker."""

    __tablename__: ClassVar[str] = "held"
    __table_args__ = (
        CheckConstraint("reason IN ('eta','retry','no_worker','limit')", name="reason"),
        Index("ix_held_until", "until", postgresql_where=text("until IS NOT NULL")),
        Index("ix_held_task_type", "task_type", postgresql_where=text("reason = 'no_worker'")),
        Index("ix_held_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    task_id: UUID = Field(primary_key=True, description="The task.")
    queue: str = Field(sa_type=PlainText, description="The task's queue.")
    priority: int = Field(sa_type=SmallInteger, description="0 to 9; 9 runs first.")
    task_type: str = Field(sa_type=PlainText, description="The task's type; a worker that knows it frees it.")
    reason: str = Field(
        sa_type=PlainText,
        description="`eta`, `retry`, `no_worker` (no live worker knows its type), `limit` (one is reached).",
    )
    until: datetime | None = Field(sa_type=Moment, description="When it becomes ready; null: when somebody frees it.")
    alone: bool = Field(
        sa_column_kwargs={"server_default": text("false")},
        description="As in `ready`, for when it goes there.",
    )
    expires_at: datetime | None = Field(sa_type=Moment, description="Not to be begun after this; null: never expires.")
