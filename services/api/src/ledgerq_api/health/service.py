"""Looks at what the API depends on, in parallel and with a deadline."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from ledgerq_api import __version__
from ledgerq_api.health.schemas import Check, Health, Ready
from ledgerq_api.ledger import Ledger
from ledgerq_shared.broker import Broker
from ledgerq_shared.database import execute
from ledgerq_shared.errors import LedgerUnavailable, Unavailable
from ledgerq_shared.statements.read_queues import count_workers

#: Seconds for any check: orchestrators give up soon after.
_PATIENCE = 3.0


class HealthService:
    """Answers the three questions."""

    def __init__(self, ledger: Ledger, broker: Broker) -> None:
        self._ledger = ledger
        self._broker = broker
        self._begun_at = time.monotonic()
        self._pings = ThreadPoolExecutor(1, thread_name_prefix="ping")

    async def ready(self) -> Ready:
        """Ready, perhaps degraded.

        Raises:
            LedgerUnavailable: PostgreSQL is away, so nothing can be served.
        """
        (ledger, _), broker = await asyncio.gather(self._look_at_ledger(), self._look_at_broker())
        checks = {"ledger": ledger, "broker": broker}
        if ledger.status != "ok":
            raise LedgerUnavailable(ledger.detail, checks=checks)
        return Ready(status="ready" if broker.status == "ok" else "degraded", checks=checks)

    async def health(self) -> Health:
        """Everything, whatever is away."""
        (ledger, counts), broker = await asyncio.gather(self._look_at_ledger(), self._look_at_broker())
        task_types, workers, slots = counts or (None, None, None)
        return Health(
            status=_worst(ledger, broker),
            version=__version__,
            uptime_seconds=round(time.monotonic() - self._begun_at, 1),
            checks={"ledger": ledger, "broker": broker},
            task_types=task_types,
            live_workers=workers,
            worker_slots=slots,
        )

    async def _look_at_ledger(self) -> tuple[Check, tuple[int, int, int] | None]:
        begun_at = time.perf_counter()
        try:
            rows = await asyncio.wait_for(self._ledger.in_thread(self._count_workers), _PATIENCE)
        except (Unavailable, TimeoutError) as error:
            detail = error.detail if isinstance(error, Unavailable) else "PostgreSQL does not answer."
            return Check(status="unavailable", detail=detail), None
        task_types, workers, slots = rows[0]
        return Check(status="ok", latency_ms=_milliseconds_since(begun_at)), (task_types, workers, slots)

    def _count_workers(self) -> list[tuple[Any, ...]]:
        """Asked as who would write: a server that was demoted answers reads, and is of no use."""
        return self._ledger.repeatable(lambda cursor: execute(cursor, count_workers()), writes=True)

    async def _look_at_broker(self) -> Check:
        begun_at = time.perf_counter()
        ping = asyncio.get_running_loop().run_in_executor(self._pings, self._broker.ping)
        try:
            answers = await asyncio.wait_for(ping, _PATIENCE)
        except TimeoutError:
            answers = False
        if answers:
            return Check(status="ok", latency_ms=_milliseconds_since(begun_at))
        return Check(
            status="degraded",
            detail="Redis does not answer; tasks are accepted, and run as soon as workers reach it.",
        )


def _worst(ledger: Check, broker: Check) -> Literal["healthy", "degraded", "unhealthy"]:
    if ledger.status != "ok":
        return "unhealthy"
    return "healthy" if broker.status == "ok" else "degraded"


def _milliseconds_since(begun_at: float) -> float:
    return round((time.perf_counter() - begun_at) * 1000, 2)
