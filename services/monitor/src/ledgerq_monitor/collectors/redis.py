"""Redis: its memory, and how many tickets and foreign messages it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from prometheus_client.core import Metric as Family

from ledgerq_monitor.stores import redis_client
from ledgerq_shared.broker import ticket_list
from ledgerq_shared.faults import Fault
from ledgerq_shared.process.metrics import Metric
from ledgerq_shared.redis_faults import fault_of

_MEMORY = Metric("ledgerq_redis_memory_bytes", "gauge", "Memory that Redis uses.")
_MOST_MEMORY = Metric("ledgerq_redis_max_memory_bytes", "gauge", "Memory that Redis may use; 0: as much as there is.")
_CLIENTS = Metric("ledgerq_redis_clients", "gauge", "Clients connected to Redis.")
_EVICTED = Metric(
    "ledgerq_redis_evicted_keys_total",
    "counter",
    "Keys that Redis has dropped for want of memory; tickets may be among them.",
)
_TICKETS = Metric(
    "ledgerq_redis_tickets", "gauge", "Tickets in the broker; at most as many as slots serve the queue.", ("queue",)
)
_MESSAGES = Metric(
    "ledgerq_redis_messages", "gauge", "Messages of plain Celery producers that wait to be adopted.", ("queue",)
)


class Redis:
    """The broker.

    Args:
        queues: says which queues there are.
        timeout: seconds for any answer.
    """

    name = "redis"
    metrics: ClassVar[tuple[Metric, ...]] = (_MEMORY, _MOST_MEMORY, _CLIENTS, _EVICTED, _TICKETS, _MESSAGES)
    patience = 1

    def __init__(self, url: str, queues: Callable[[], tuple[str, ...]], *, timeout: float) -> None:
        self._url = url
        self._queues = queues
        self._timeout = timeout

    def collect(self) -> Iterable[Family]:
        """Read over a new connection each time: few are needed, and none can go stale."""
        queues = self._queues()
        with redis_client(self._url, timeout=self._timeout) as client:
            info = client.info()
            tickets = _lengths(client, queues, ticket_list)
            messages = _lengths(client, queues, str)
        yield _MEMORY.family({(): info["used_memory"]})
        yield _MOST_MEMORY.family({(): info.get("maxmemory", 0)})
        yield _CLIENTS.family({(): info["connected_clients"]})
        yield _EVICTED.family({(): info["evicted_keys"]})
        yield _TICKETS.family(tickets)
        yield _MESSAGES.family(messages)


def _lengths(client: Any, queues: Sequence[str], name_of: Callable[[str], str]) -> dict[tuple[str, ...], float]:
    """How long each queue's list is. A key that is not a list belongs to somebody else, and its queue is left out."""
    pipeline = client.pipeline(transaction=False)
    for queue in queues:
        pipeline.llen(name_of(queue))
    answers = pipeline.execute(raise_on_error=False) if queues else []
    found: dict[tuple[str, ...], float] = {}
    for queue, answer in zip(queues, answers, strict=True):
        if isinstance(answer, Exception):
            if fault_of(answer) is not Fault.REFUSE:
                raise answer
        else:
            found[(queue,)] = float(answer)
    return found
