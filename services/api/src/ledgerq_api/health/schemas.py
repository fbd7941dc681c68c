"""The wire form of health."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct


class Alive(Struct, frozen=True):
    """The process answers; nothing else was asked."""

    status: Literal["alive"] = "alive"


class Check(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One thing that the API needs."""

    status: Literal["ok", "degraded", "unavailable"]
    detail: str | None = None
    latency_ms: float | None = None


class Ready(Struct, kw_only=True, frozen=True):
    """Whether requests can be served. Without the broker they can: workers then find tasks by the sweep."""

    status: Annotated[Literal["ready", "degraded"], Meta(description="degraded: it serves, but something is away.")]
    checks: dict[str, Check]


class Health(Struct, kw_only=True, frozen=True):
    """How the whole is, for people."""

    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    uptime_seconds: float
    checks: dict[str, Check]
    task_types: int | None
    live_workers: int | None
    worker_slots: int | None
    ledger_went_back_at: Annotated[
        datetime | None,
        Meta(
            description="When the ledger was last found behind what it once had (a failover, a restore); null: never."
        ),
    ]


WIRE_TYPES: list[Any] = [Alive, Ready, Health]
