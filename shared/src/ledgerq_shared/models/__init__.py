"""The ledger's tables: what each column means, its unit, and what null says.

The migrations make them (partitions, triggers and storage settings are SQL); a test compares the two. Statements are
written in SQL and do not need the models, so a process that never imports them pays nothing.
"""

from ledgerq_shared.models.catalogue import Queue, TaskType
from ledgerq_shared.models.claims import Claim
from ledgerq_shared.models.columns import LedgerTable, tables
from ledgerq_shared.models.counts import TASK_COUNT
from ledgerq_shared.models.events import TaskEvent
from ledgerq_shared.models.finding import TaskSuccess, TaskTag
from ledgerq_shared.models.keys import ApiKey
from ledgerq_shared.models.outbox import Outbox
from ledgerq_shared.models.submits import Idempotency, UniqueKey
from ledgerq_shared.models.task import Task
from ledgerq_shared.models.waiting import Held, Ready
from ledgerq_shared.models.went_back import WentBack
from ledgerq_shared.models.workers import Leader, Worker

__all__ = [
    "TASK_COUNT",
    "ApiKey",
    "Claim",
    "Held",
    "Idempotency",
    "Leader",
    "LedgerTable",
    "Outbox",
    "Queue",
    "Ready",
    "Task",
    "TaskEvent",
    "TaskSuccess",
    "TaskTag",
    "TaskType",
    "UniqueKey",
    "WentBack",
    "Worker",
    "tables",
]
