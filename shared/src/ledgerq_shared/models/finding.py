"""``task_success`` and ``task_tag``: lists are read from these tables where an index of ``task`` would cost more or
find less.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from sqlmodel import Field

from ledgerq_shared.models.columns import LedgerTable, PlainText


class TaskSuccess(LedgerTable, table=True):
    """A task that succeeded. An index of `task` by SUCCESS would make each success a new entry in all its indexes."""

    __tablename__: ClassVar[str] = "task_success"

    task_id: UUID = Field(primary_key=True, description="The task.")


class TaskTag(LedgerTable, table=True):
    """A tag of a task; a trigger writes it when the task is accepted."""

    __tablename__: ClassVar[str] = "task_tag"

    tag: str = Field(primary_key=True, sa_type=PlainText, description="The tag.")
    task_id: UUID = Field(primary_key=True, description="A task that carries it.")
