"""``task_count``: how many tasks there are of each type, in each queue and state, without counting them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table

from ledgerq_shared.models.columns import PlainText, tables

#: Differences that are only added; their sum is exact, and maintenance folds them. It is a plain table, because its
#: rows have no key.
TASK_COUNT = Table(
    "task_count",
    tables(),
    Column("task_type", PlainText(), nullable=False, doc="Dotted name of the task type."),
    Column("queue", PlainText(), nullable=False, doc="The queue."),
    Column("state", PlainText(), nullable=False, doc="One of the six words of `ledgerq_shared.states`."),
    Column("delta", BigInteger(), nullable=False, doc="How many more there are since; below zero: fewer."),
)
