"""``task_type`` and ``queue``: what can be submitted, and where to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Text, text
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText, StoredJson


class TaskType(LedgerTable, table=True):
    """A task type. Outlives the workers that registered it."""

    __tablename__: ClassVar[str] = "task_type"

    name: str = Field(primary_key=True, sa_type=PlainText, description="Dotted name.")
    doc: str = Field(
        sa_type=Text, sa_column_kwargs={"server_default": text("''")}, description="Doc string; may be empty."
    )
    parameters_schema: Any = Field(
        sa_type=StoredJson, nullable=False, description="JSON Schema (2020-12) of the keyword arguments."
    )
    queue: str = Field(sa_type=PlainText, description="Queue of a task that names none.")
    options: Any = Field(
        sa_type=StoredJson,
        nullable=False,
        description="`{max_retries, time_limit, soft_time_limit, on_worker_lost, ignore_result, rate_limit, "
        "priority}`.",
    )
    registered_at: datetime = Field(sa_type=Moment, description="When it was first registered.")
    updated_at: datetime = Field(sa_type=Moment, description="When its entry last changed.")


class Queue(LedgerTable, table=True):
    """A queue that somebody has served or set up. Others exist by being used."""

    __tablename__: ClassVar[str] = "queue"

    name: str = Field(primary_key=True, sa_type=PlainText, description="Its name.")
    paused: bool = Field(
        sa_column_kwargs={"server_default": text("false")}, description="Whether nothing is claimed from it."
    )
    options: Any = Field(
        sa_type=StoredJson,
        nullable=False,
        sa_column_kwargs={"server_default": text("'{}'")},
        description="Limits that were set for it, a JSON object.",
    )
    made_by: str | None = Field(
        sa_type=PlainText,
        index=True,
        description="Whose submit, or call, named it first (`key:<id>`, `api`); null: a worker serves it, or it is old.",
    )
