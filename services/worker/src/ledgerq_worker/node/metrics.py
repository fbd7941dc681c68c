"""The metrics of a worker node: what its slots have counted, and what they do now."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric as Family

from ledgerq_shared import outage_metrics, outages
from ledgerq_shared.process.metrics import FromFunction, Metric
from ledgerq_worker.celery.seams.strangers import refused
from ledgerq_worker.node.node import Node
from ledgerq_worker.slot import tally
from ledgerq_worker.slot.tally import TallySheet

_SLOTS = Metric("ledgerq_worker_slots", "gauge", "Slots of this node: how many tasks it runs at once.")
_BUSY = Metric("ledgerq_worker_busy_slots", "gauge", "Slots of this node whose task is running now.")
_RUNNING = Metric(
    "ledgerq_worker_running_seconds", "gauge", "For how long the longest running task of this node runs; 0: none does."
)
_LOST = Metric("ledgerq_worker_lost_processes_total", "counter", "Pool processes of this node that died in a drain.")

_REFUSED = Metric(
    "ledgerq_worker_refused_messages_total",
    "counter",
    "What strangers left in Redis and this node has set aside: `ticket`, `message`, `broadcast`, `unacknowledged`.",
    ("kind",),
)

METRICS = (*tally.METRICS, _SLOTS, _BUSY, _RUNNING, _LOST, _REFUSED, outage_metrics.IS_ON)


def registry_of(node: Node, sheet: TallySheet) -> CollectorRegistry:
    """A registry that answers scrapes from the node's shared memory. The process's own figures are those of the
    parent.
    """

    def families() -> Iterable[Family]:
        sums = sheet.sums()
        for metric in tally.METRICS:
            found = sums[metric.name]
            if metric.kind == "counter":
                yield metric.family({(): 0.0, **{labels: one.total for labels, one in found.items()}})
            else:
                yield metric.family(found)
        running = [record for record in node.table.read() if record.task_id]
        begun = min((record.begun_at for record in running), default=None)
        yield _SLOTS.family({(): node.table.count})
        yield _BUSY.family({(): len(running)})
        yield _RUNNING.family({(): 0.0 if begun is None else time.monotonic() - begun})
        yield _LOST.family({(): node.lost_processes})
        # The parent works with Redis, the agent with PostgreSQL.
        yield outage_metrics.is_on(outages.numbers() | node.table.agent_outages)
        yield _REFUSED.family({(kind,): refused[kind] for kind in ("ticket", "message", "broadcast", "unacknowledged")})

    registry = CollectorRegistry()
    registry.register(FromFunction(families))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
