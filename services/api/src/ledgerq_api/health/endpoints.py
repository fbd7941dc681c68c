"""``/livez``, ``/readyz``, ``/health``, ``/metrics``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from prometheus_client.exposition import choose_encoder

from ledgerq_api import metrics
from ledgerq_api.documentation import answers
from ledgerq_api.health.schemas import Alive
from ledgerq_api.health.service import HealthService
from ledgerq_api.requests.lean import json_response
from ledgerq_api.requests.query import CheckedRoute

_ALIVE = Alive()
_CHECKS: dict[str, Any] = {
    "ledger": {"status": "ok", "latency_ms": 0.4},
    "broker": {"status": "ok", "latency_ms": 0.3},
}
_READY: dict[str, Any] = {"status": "ready", "checks": _CHECKS}
_HEALTH: dict[str, Any] = {
    "status": "healthy",
    "version": "0.1.0",
    "uptime_seconds": 12.5,
    "checks": _CHECKS,
    "task_types": 8,
    "live_workers": 1,
    "worker_slots": 2,
    "ledger_went_back_at": None,
}


def router(service: HealthService) -> APIRouter:
    """All four calls."""
    routes = APIRouter(tags=["health"], default_response_class=Response, route_class=CheckedRoute)

    @routes.get("/livez", summary="Is it alive?", responses=answers(200, "Alive", "It is.", {"status": "alive"}))
    async def livez() -> Response:
        """Never asks a dependency: restarting the API does not bring PostgreSQL back."""
        return json_response(_ALIVE, cache="no-store")

    @routes.get("/readyz", summary="Can it serve?", responses=answers(200, "Ready", "It can.", _READY, errors=(503,)))
    async def readyz() -> Response:
        """503 while PostgreSQL is away. Without Redis it is ready, but degraded."""
        return json_response(await service.ready(), cache="no-store")

    @routes.get(
        "/health",
        summary="How is it?",
        responses={
            **answers(200, "Health", "It serves.", _HEALTH),
            503: {**answers(503, "Health", "It cannot serve.", {**_HEALTH, "status": "unhealthy"})[503]},
        },
    )
    async def health() -> Response:
        """The state of everything, for people; 503 when `status` is `unhealthy`."""
        report = await service.health()
        return json_response(report, 503 if report.status == "unhealthy" else 200, cache="no-store")

    @routes.get("/metrics", include_in_schema=False)
    async def show_metrics(accept: Annotated[str, Header()] = "") -> Response:
        """This process's figures, as Prometheus reads them."""
        write, content_type = choose_encoder(accept)
        return Response(write(metrics.registry), headers={"content-type": content_type, "cache-control": "no-store"})

    return routes
