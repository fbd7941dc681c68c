"""``task_count``: how many tasks there are of each type, in each queue and state, without counting them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table

from ledgerq_shared.models.columns import PlainText, tables

#: Append-only deltas; the sum is exact. Maintenance folds them. A plain table, for its rows have no identity.
TASK_COUNT = Table(
    "task_count",
    tables(),
    Column("task_type", PlainText(), nullable=False, doc="Dotted name of the task type."),
    Column("queue", PlainText(), nullable=False, doc="The queue."),
    Column("state", PlainText(), nullable=False, doc="One of the six words of `ledgerq_shared.states`."),
    Column("delta", BigInteger(), nullable=False, doc="How many more there are since; below zero: fewer."),
)
