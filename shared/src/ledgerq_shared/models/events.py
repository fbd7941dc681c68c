"""``task_event``: the event log, append-only, one partition a day."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText, StoredJson


class TaskEvent(LedgerTable, table=True):
    """One step of a task's history, or up to three of them: see :mod:`ledgerq_shared.events`."""

    __tablename__: ClassVar[str] = "task_event"
    __table_args__ = {"postgresql_partition_by": "RANGE (at)"}  # noqa: RUF012 - as SQLAlchemy wants it

    task_id: UUID = Field(primary_key=True, description="The task; its row is locked while an event is written.")
    seq: int = Field(
        primary_key=True,
        sa_column_kwargs={"autoincrement": False},
        description="Number within the task, from 1; without gaps after expansion.",
    )
    at: datetime = Field(primary_key=True, sa_type=Moment, description="When it happened.")
    kind: str = Field(sa_type=PlainText, description="What happened; the words are those of `ledgerq_shared.events`.")
    attempt: int = Field(
        sa_column_kwargs={"server_default": text("0")}, description="Executions begun by then; 0: none yet."
    )
    actor: str = Field(
        sa_type=PlainText,
        description="Who did it: `api`, `key:<id>`, `client`, `celery`, `worker:<name>`, `maintenance`.",
    )
    claimed_at: datetime | None = Field(
        sa_type=Moment,
        description="Set: the row also stands for `dispatched`, which happened then; null: it does not.",
    )
    started_at: datetime | None = Field(
        sa_type=Moment,
        description="Set: the row also stands for `started`, which happened then; null: it does not.",
    )
    data: Any | None = Field(sa_type=StoredJson, description="More about it, a JSON object; null: nothing.")
