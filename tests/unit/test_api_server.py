"""The API's process sleeps while nothing happens."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from fastapi import FastAPI

from ledgerq_api import main
from ledgerq_api.app import build_services, create_app
from ledgerq_api.requests.access_log import AccessLog
from ledgerq_api.settings import ApiSettings
from ledgerq_shared.front_door import Guard, Limits
from ledgerq_shared.settings import StoreSettings

if TYPE_CHECKING:
    import pytest


def test_a_signal_ends_a_server_that_would_not_have_looked_for_an_hour(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(main, "_DATE_EVERY", 3600.0)
    guard = Guard(Limits(), lambda _error, _address, _scope: None)
    server = main._Server(main._config(FastAPI(), ApiSettings()), services=None, guard=guard)  # type: ignore[arg-type]

    async def serve() -> None:
        serving = asyncio.create_task(server.main_loop())
        await asyncio.sleep(0)  # its first tick
        assert [name for name, _ in server.server_state.default_headers] == [b"date"]
        assert not serving.done()
        await asyncio.to_thread(server.handle_exit, signal.SIGTERM, None)
        await asyncio.wait_for(serving, 10)

    asyncio.run(serve())


def test_the_access_log_is_in_a_requests_way_only_where_it_is_wanted():
    stores = StoreSettings(database_url="postgresql://nobody@127.0.0.1:1/x", redis_url="redis://127.0.0.1:1/0")

    def layers(*, wanted: bool) -> list[object]:
        settings = ApiSettings(api_access_log=wanted)
        return [layer.cls for layer in create_app(build_services(stores, settings), settings).user_middleware]

    assert AccessLog not in layers(wanted=False)
    assert len(layers(wanted=True)) == len(layers(wanted=False)) + 1
    assert AccessLog in layers(wanted=True)
