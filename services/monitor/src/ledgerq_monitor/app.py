"""The monitor's HTTP side: three health paths, and the metrics."""

from __future__ import annotations

import contextlib
import hmac
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ledgerq_monitor.exporter import build_exporter
from ledgerq_monitor.stores import ask_postgres, ask_redis
from ledgerq_shared.errors import HostNotAllowed, OriginNotAllowed
from ledgerq_shared.hosts import Hosts
from ledgerq_shared.postgres import replica_metrics
from ledgerq_shared.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ledgerq_monitor.settings import MonitorSettings
    from ledgerq_monitor.stores import Answer
    from ledgerq_shared.settings import StoreSettings


def build(stores: StoreSettings, settings: MonitorSettings) -> Starlette:
    """Return the application. Nothing is connected yet."""
    exporter = build_exporter(stores, settings)
    registry = CollectorRegistry()
    registry.register(exporter.as_collector())
    registry.register(replica_metrics.collector())
    for own in (ProcessCollector, PlatformCollector, GCCollector):
        own(registry=registry)
    token = None if settings.token is None else settings.token.get_secret_value()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        exporter.close()

    health = _Health(stores)
    routes = [
        Route("/livez", health.livez),
        Route("/readyz", health.readyz),
        Route("/health", health.health),
        Route("/metrics", partial(_metrics, registry, token)),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    if token is None and is_loopback(settings.host):
        app.add_middleware(_NoStrangers)
    return app


class _Health:
    """The health paths: each asks the stores over fresh connections."""

    def __init__(self, stores: StoreSettings) -> None:
        self._stores = stores

    async def livez(self, _: Request) -> JSONResponse:
        """Asks no store: a database that is away must not restart the monitor."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, _: Request) -> JSONResponse:
        ready = _are_well(await self._ask_all())
        return JSONResponse({"status": "ok" if ready else "unavailable"}, 200 if ready else 503)

    async def health(self, _: Request) -> JSONResponse:
        answers = await self._ask_all()
        said = {name: asdict(answer) for name, answer in answers.items()}
        status = "ok" if _are_well(answers) else "degraded"
        return JSONResponse({"status": status, "service": "monitor", "stores": said})

    async def _ask_all(self) -> dict[str, Answer]:
        return {
            "postgresql": await run_in_threadpool(ask_postgres, self._stores.database_url),
            "redis": await run_in_threadpool(ask_redis, self._stores.broker_url),
        }


def _are_well(answers: dict[str, Answer]) -> bool:
    return all(answer.well for answer in answers.values())


async def _metrics(registry: CollectorRegistry, token: str | None, request: Request) -> Response:
    if token is not None and not _is_allowed(request, token):
        return Response("Unauthorized\n", 401, {"www-authenticate": "Bearer"}, media_type="text/plain")
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(await run_in_threadpool(encode, registry), headers={"content-type": content_type})


class _NoStrangers:
    """Refuses host names that a page in somebody's browser may have let resolve to this server, to read what only this
    machine may read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._hosts = Hosts([], needless="token", remedy="set LEDGERQ_MONITOR_TOKEN")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            try:
                self._hosts.check(scope["method"], scope["headers"], needs_key=False)
            except (HostNotAllowed, OriginNotAllowed):
                await Response("This host name is not served without a token.\n", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_allowed(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(given.encode(), token.encode())
