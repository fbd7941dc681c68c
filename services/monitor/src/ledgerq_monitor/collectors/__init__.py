"""One collector for each subject. Each declares its metrics, reads within a deadline, and fails alone."""

from ledgerq_monitor.collectors.collector import Collector, Ledger
from ledgerq_monitor.collectors.dispatch import Dispatch
from ledgerq_monitor.collectors.postgresql import Replication, Server, Tables
from ledgerq_monitor.collectors.queues import Held, Queues
from ledgerq_monitor.collectors.redis import Redis
from ledgerq_monitor.collectors.tasks import Deaths, Stuck, Tasks
from ledgerq_monitor.collectors.workers import EndedWorkers, Workers

__all__ = [
    "Collector",
    "Deaths",
    "Dispatch",
    "EndedWorkers",
    "Held",
    "Ledger",
    "Queues",
    "Redis",
    "Replication",
    "Server",
    "Stuck",
    "Tables",
    "Tasks",
    "Workers",
]
