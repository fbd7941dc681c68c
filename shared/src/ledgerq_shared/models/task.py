"""``task``: every task that was ever accepted, as it stands now."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import REAL, CheckConstraint, Computed, Index, SmallInteger, Text, text
from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, Moment, PlainText, PlainTexts, StoredJson


class Task(LedgerTable, table=True):
    """One task. Only :mod:`ledgerq_shared.statements` changes its state."""

    __tablename__: ClassVar[str] = "task"
    __table_args__ = (
        CheckConstraint("state IN ('PENDING','STARTED','RETRY','SUCCESS','FAILURE','REVOKED')", name="state"),
        CheckConstraint(
            "(state IN ('SUCCESS','FAILURE','REVOKED')) = (completed_at IS NOT NULL)",
            name="final_has_completed_at",
        ),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
        Index("uq_task_celery_id", "celery_id", unique=True, postgresql_where=text("celery_id IS NOT NULL")),
        Index("ix_task_task_type", "task_type", "id"),
        Index("ix_task_queue", "queue", "id"),
        Index(
            "ix_task_exception_state",
            "exception_state",
            "id",
            postgresql_where=text("exception_state IS NOT NULL"),
        ),
        Index("ix_task_worker_deaths", "id", postgresql_where=text("worker_deaths > 0")),
        Index("ix_task_rerun_of", "rerun_of", "id", postgresql_where=text("rerun_of IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 45}},
    )

    id: UUID = Field(primary_key=True, description="UUID version 7, made where the task is accepted.")
    celery_id: str | None = Field(
        sa_type=PlainText, description="Celery's own id, unique; null: it is the text of `id`."
    )
    task_type: str = Field(sa_type=PlainText, description="Dotted name of the task type.")
    queue: str = Field(sa_type=PlainText, description="Queue it was submitted to.")
    priority: int = Field(
        sa_type=SmallInteger,
        sa_column_kwargs={"server_default": text("5")},
        description="0 to 9; 9 runs first.",
    )
    state: str = Field(
        sa_type=PlainText,
        sa_column_kwargs={"server_default": text("'PENDING'")},
        description="One of the six words of `ledgerq_shared.states`.",
    )
    exception_state: str | None = Field(
        sa_type=PlainText,
        sa_column_args=[Computed("CASE WHEN state IN ('RETRY','FAILURE','REVOKED') THEN state END", persisted=True)],
        description="`state` where it is RETRY, FAILURE or REVOKED, which have an index; else null.",
    )
    submitted_at: datetime = Field(sa_type=Moment, description="When it was accepted.")
    run_at: datetime | None = Field(
        sa_type=Moment, description="ETA, when its next retry is due, or since when it may run again; null: at once."
    )
    expires_at: datetime | None = Field(sa_type=Moment, description="Not to be begun after this; null: never expires.")
    started_at: datetime | None = Field(
        sa_type=Moment,
        description="When the code of the latest attempt began (not when it was claimed); null: never.",
    )
    completed_at: datetime | None = Field(sa_type=Moment, description="When it became final; null exactly until then.")
    seq: int = Field(sa_column_kwargs={"server_default": text("1")}, description="Number of its latest event.")
    attempt: int = Field(sa_column_kwargs={"server_default": text("0")}, description="Executions begun.")
    retries: int = Field(
        sa_column_kwargs={"server_default": text("0")},
        description="Celery's `request.retries`: retries made, recoveries not counted.",
    )
    worker_deaths: int = Field(
        sa_type=SmallInteger,
        sa_column_kwargs={"server_default": text("0")},
        description="Worker deaths that it was charged with; the quarantine counts them.",
    )
    max_retries: int | None = Field(description="Most retries; null: the task type's own.")
    time_limit: float | None = Field(
        sa_type=REAL, description="Hard limit of an attempt, in seconds; null: the task type's own."
    )
    soft_time_limit: float | None = Field(
        sa_type=REAL, description="Soft limit of an attempt, in seconds; null: the task type's own."
    )
    on_worker_lost: str | None = Field(sa_type=PlainText, description="`rerun` or `fail`; null: the task type's own.")
    worker: str | None = Field(
        sa_type=PlainText,
        description="Name of the worker that runs or ran the latest attempt; null: none did.",
    )
    cancel_requested_at: datetime | None = Field(
        sa_type=Moment, description="When somebody asked to cancel it; null: nobody did."
    )
    terminate: bool = Field(
        sa_column_kwargs={"server_default": text("false")},
        description="Whether that cancellation may kill the process that runs it.",
    )
    progress: float | None = Field(sa_type=REAL, description="Latest progress in per cent; null: none was reported.")
    progress_status: str | None = Field(sa_type=Text, description="What the task said with it; null: nothing.")
    progress_at: datetime | None = Field(sa_type=Moment, description="When it was reported; null: never.")
    args: Any | None = Field(sa_type=StoredJson, description="Positional arguments, a JSON array; null: none.")
    parameters: Any = Field(sa_type=StoredJson, nullable=False, description="Keyword arguments, a JSON object.")
    result: Any | None = Field(sa_type=StoredJson, description="What it returned; null unless SUCCESS (and kept).")
    error: Any | None = Field(
        sa_type=StoredJson, description="`{type, message, traceback, retryable}`; null unless FAILURE."
    )
    celery: Any | None = Field(
        sa_type=StoredJson,
        description="Callbacks, chain, chord and headers of a Celery message; null: submitted over HTTP.",
    )
    metadata_: Any | None = Field(
        sa_type=StoredJson,
        sa_column_kwargs={"name": "metadata"},
        description="What the submitter attached, a JSON object; null: nothing.",
    )
    tags: list[str] | None = Field(sa_type=PlainTexts, description="Labels to find it by; null: none.")
    rerun_of: UUID | None = Field(description="The task that this one repeats; null: it is no rerun.")
    unique_key: str | None = Field(
        sa_type=PlainText, description="Key that it took when it was submitted (see `unique_key`); null: none."
    )
    trace: str | None = Field(
        sa_type=PlainText,
        description="Id of the request that it came with and, after a blank, its W3C `traceparent`; null: no request.",
    )
    noted_at: datetime | None = Field(
        sa_type=Moment,
        description="When the latest of its events happened that no other column tells the time of; null: none did.",
    )
