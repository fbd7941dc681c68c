"""Checks what the API depends on, in parallel and with a deadline."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Literal

from ledgerq_api import __version__
from ledgerq_api.health.schemas import Check, Health, Ready
from ledgerq_api.ledger import Ledger
from ledgerq_api.tasks.explaining import FailingStore
from ledgerq_shared import clock, outages
from ledgerq_shared.broker import Broker
from ledgerq_shared.errors import LedgerUnavailable, Unavailable
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.process.sampling import SampledLog
from ledgerq_shared.statements.read_queues import Overview, read_clock, read_overview

#: Seconds for each check: orchestrators give up soon after that.
_PATIENCE = 3.0


#: Reads are served, so requests should still be sent to this process.
_WRITES_WAIT = "PostgreSQL answers reads; writes wait for a synchronous standby that does not confirm them."
_AWAY = "PostgreSQL cannot serve us at the moment; the log says why."

_NO_WRITES = "PostgreSQL takes no writes at the moment; the log says why."

_sampled = SampledLog(every=60.0)


class HealthService:
    """Answers the three questions."""

    def __init__(self, ledger: Ledger, broker: Broker) -> None:
        self._ledger = ledger
        self._broker = broker
        self._begun_at = time.monotonic()
        # The checks have threads of their own: long reads must not make this process look as if it could not serve.
        self._pings = ThreadPoolExecutor(1, thread_name_prefix="ping")
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._look: asyncio.Future[Overview] | None = None

    async def ready(self) -> Ready:
        """The process is ready, perhaps degraded.

        Raises:
            LedgerUnavailable: PostgreSQL is away, so nothing can be served.
        """
        (ledger, _), broker = await asyncio.gather(self._look_at_ledger(), self._look_at_broker())
        checks = {"ledger": ledger, "broker": broker}
        if ledger.status == "unavailable":
            # Anybody may call this. Which server it is, and what it says, is only for callers that may ask for
            # `/health`.
            if not outages.POSTGRESQL.is_on:  # otherwise the log reports it already
                _sampled.note("api.not_ready", "ledger", reason=ledger.detail)
            checks["ledger"] = Check(status="unavailable", detail=_AWAY)
            raise LedgerUnavailable(say(_AWAY), checks=checks)
        if ledger.status == "degraded" and ledger.detail != _WRITES_WAIT:
            checks["ledger"] = Check(status="degraded", detail=_NO_WRITES, latency_ms=ledger.latency_ms)
        is_well = all(check.status == "ok" for check in checks.values())
        return Ready(status="ready" if is_well else "degraded", checks=checks)

    async def health(self) -> Health:
        """The state of everything, even if something is away."""
        (ledger, seen), broker = await asyncio.gather(self._look_at_ledger(), self._look_at_broker())
        return Health(
            status=_worst(ledger, broker),
            version=__version__,
            uptime_seconds=round(time.monotonic() - self._begun_at, 1),
            checks={"ledger": ledger, "broker": broker},
            task_types=seen and seen.task_types,
            live_workers=seen and seen.workers,
            worker_slots=seen and seen.slots,
            ledger_went_back_at=seen and seen.went_back_at,
        )

    async def failing(self) -> dict[FailingStore, datetime]:
        """Which failures of the stores keep tasks from running, and since when; it looks at the broker."""
        broker = await self._look_at_broker()
        found: dict[FailingStore, datetime] = {}
        if ledger := outages.POSTGRESQL_WRITES.seen:
            found["ledger_refuses"] = ledger.since
        if refused := outages.REDIS_WRITES.seen:
            found["redis_refuses"] = refused.since
        elif broker.status != "ok":
            seen = outages.REDIS.seen
            found["redis_away"] = seen.since if seen else datetime.now(UTC)
        return found

    async def _look_at_ledger(self) -> tuple[Check, Overview | None]:
        begun_at = time.perf_counter()
        try:
            seen = await asyncio.wait_for(asyncio.shield(self._shared_look()), _PATIENCE)
        except (Unavailable, TimeoutError) as error:
            detail = error.detail if isinstance(error, Unavailable) else "PostgreSQL does not answer."
            return Check(status="unavailable", detail=detail), None
        latency = _milliseconds_since(begun_at)
        if refused := outages.POSTGRESQL_WRITES.seen:
            return Check(status="degraded", detail=_since(refused, "It takes no writes"), latency_ms=latency), seen
        if seen.do_writes_wait:
            return Check(status="degraded", detail=_WRITES_WAIT, latency_ms=latency), seen
        return Check(status="ok", latency_ms=latency), seen

    def _shared_look(self) -> asyncio.Future[Overview]:
        """Callers that ask at the same time share one look at the ledger."""
        if self._look is None or self._look.done():
            self._look = asyncio.get_running_loop().run_in_executor(self._looks, self._read_overview)
            self._look.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._look

    def close(self) -> None:
        """Wait for a look that has begun."""
        self._pings.shutdown(wait=False, cancel_futures=True)
        self._looks.shutdown(wait=False, cancel_futures=True)

    def _read_overview(self) -> Overview:
        """Counts over a connection that may write: a demoted server answers reads, but is of no use."""
        return self._ledger.repeatable(_look_and_ask_the_time, writes=True)

    async def _look_at_broker(self) -> Check:
        begun_at = time.perf_counter()
        ping = asyncio.get_running_loop().run_in_executor(self._pings, self._broker.ping)
        try:
            answers = await asyncio.wait_for(ping, _PATIENCE)
        except TimeoutError:
            answers = False
        if refused := outages.REDIS_WRITES.seen:
            why = f"{_since(refused, 'Redis takes no writes')} Tasks are accepted, and run when it does."
        elif not answers:
            why = "Redis does not answer; tasks are accepted, and run as soon as workers reach it."
        else:
            return Check(status="ok", latency_ms=_milliseconds_since(begun_at))
        return Check(status="degraded", detail=why)


def _look_and_ask_the_time(cursor: Cursor) -> Overview:
    [seen] = execute(cursor, read_overview())
    asked_at = time.monotonic()
    [(ledger_time,)] = execute(cursor, read_clock())
    clock.note(ledger_time, asked_at)
    return seen


def _since(seen: outages.Seen, what: str) -> str:
    return f"{what} since {seen.since:%Y-%m-%dT%H:%M:%SZ}: {seen.reason}."


def _worst(ledger: Check, broker: Check) -> Literal["healthy", "degraded", "unhealthy"]:
    if ledger.status == "unavailable":
        return "unhealthy"
    return "healthy" if ledger.status == broker.status == "ok" else "degraded"


def _milliseconds_since(begun_at: float) -> float:
    return round((time.perf_counter() - begun_at) * 1000, 2)
