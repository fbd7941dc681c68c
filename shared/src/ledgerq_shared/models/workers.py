"""``worker`` and ``leader``: who lives, and who leads."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Index, Text, text
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText, PlainTexts


class Worker(LedgerTable, table=True):
    """A worker node under one registration. A node that was declared dead registers anew, with another id."""

    __tablename__: ClassVar[str] = "worker"
    __table_args__ = (
        Index("ix_worker_live", "lease_until", postgresql_where=text("ended_at IS NULL")),
        {"postgresql_with": {"fillfactor": 50}},
    )

    id: UUID = Field(primary_key=True, description="This registration.")
    name: str = Field(sa_type=PlainText, description="`host:pid` unless named.")
    host: str = Field(sa_type=Text, description="The machine's name.")
    pid: int = Field(description="Process id of the Celery parent, on that machine.")
    pool: str = Field(sa_type=Text, description="`prefork`, `threads` or `solo`.")
    slots: int = Field(description="How many tasks it runs at once.")
    queues: list[str] = Field(sa_type=PlainTexts, nullable=False, description="Queues that it serves.")
    task_types: list[str] = Field(sa_type=PlainTexts, nullable=False, description="Task types whose code it has.")
    acknowledged: list[str] | None = Field(
        sa_type=PlainTexts,
        description="Those of them that must not run a second time if a task came as a Celery message; null: its release is "
        "older, and they run again.",
    )
    started_at: datetime = Field(sa_type=Moment, description="When it registered.")
    beat_at: datetime = Field(sa_type=Moment, description="Its latest heartbeat.")
    lease_until: datetime = Field(sa_type=Moment, description="It may be declared dead after this.")
    stopping: bool = Field(
        sa_column_kwargs={"server_default": text("false")}, description="Whether it claims nothing more."
    )
    ticket_lists: bool = Field(
        sa_column_kwargs={"server_default": text("false")},
        description="Whether it takes tickets from ticket lists; false: its release is older, and its tickets lie in the "
        "list that is called as the queue.",
    )
    ended_at: datetime | None = Field(
        sa_type=Moment, description="When it stopped or was declared dead; null: it lives."
    )
    ended_why: str | None = Field(sa_type=Text, description="`stopped` or `lost`; null: it lives.")


class Leader(LedgerTable, table=True):
    """The process that may do what only one process may do."""

    __tablename__: ClassVar[str] = "leader"

    name: str = Field(primary_key=True, sa_type=PlainText, description="What is led: `maintenance`.")
    holder: UUID = Field(description="The process that leads.")
    until: datetime = Field(sa_type=Moment, description="Another process may take it after this.")
    beat_at: datetime | None = Field(
        sa_type=Moment,
        description="When it was last there: what a replica shows is as old as this; null: nobody said so.",
    )
