"""The monitor's HTTP side: three health paths."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from ledgerq_monitor.stores import ask_postgres, ask_redis

if TYPE_CHECKING:
    from starlette.requests import Request

    from ledgerq_monitor.stores import Answer


def build(*, database_url: str, broker_url: str) -> Starlette:
    """Return the application. The URLs are kept for the questions; nothing is connected yet."""

    async def livez(_: Request) -> JSONResponse:
        """Asks nobody: a database that is away must not restart the monitor."""
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> JSONResponse:
        answers = await ask_all()
        ready = all(answer.well for answer in answers.values())
        return JSONResponse({"status": "ok" if ready else "unavailable"}, 200 if ready else 503)

    async def health(_: Request) -> JSONResponse:
        answers = await ask_all()
        ready = all(answer.well for answer in answers.values())
        stores = {name: asdict(answer) for name, answer in answers.items()}
        return JSONResponse({"status": "ok" if ready else "degraded", "service": "monitor", "stores": stores})

    async def ask_all() -> dict[str, Answer]:
        return {
            "postgresql": await run_in_threadpool(ask_postgres, database_url),
            "redis": await run_in_threadpool(ask_redis, broker_url),
        }

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/health", health)])
