"""The API's process sleeps while nothing happens."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from fastapi import FastAPI

from ledgerq_api import main
from ledgerq_api.settings import ApiSettings
from ledgerq_shared.front_door import Guard, Limits

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
