"""Entry point of ``ledgerq-monitor``."""

import ledgerq_shared.process.lean_imports  # noqa: F401 - comes first  # isort: skip

import os
import sys

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ledgerq_monitor.app import build
from ledgerq_monitor.settings import MonitorSettings
from ledgerq_shared.front_door import Guard, Guarded, Limits
from ledgerq_shared.listening import listen, url_of
from ledgerq_shared.process import logging, output
from ledgerq_shared.process.commands import complain
from ledgerq_shared.process.sampling import SampledLog
from ledgerq_shared.process.signals import treat_as_sigterm
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, load

#: Nobody sends a body to the monitor, and it has few clients.
_LIMITS = Limits(connections=1000, held_bytes=4 * 1024 * 1024)


def main() -> None:
    """Serve until SIGTERM or SIGINT; a bad setting is one line and exit 2."""
    output.guard()
    try:
        settings, stores, logs = load(MonitorSettings), load(StoreSettings), load(LogSettings)
        listener = listen(settings.host, settings.port, prefix="MONITOR")
    except SettingsError as error:
        complain("ledgerq-monitor", error.said)
        sys.exit(2)
    logging.configure(logs, service="monitor", prints=dict)
    app = build(stores, settings)
    treat_as_sigterm()
    sampled = SampledLog()
    guard = Guard(_LIMITS, lambda error, address, _scope: sampled.note("monitor.refused", error.code, address=address))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=type("Connection", (Guarded, HttpToolsProtocol), {"guard": guard}),
        ws="none",
        proxy_headers=False,
        log_config=None,
        log_level="warning",
        # Probes ask every few seconds: their access log would bury everything else.
        access_log=False,
    )
    structlog.get_logger().info("monitor.listening", url=url_of(*listener.getsockname()[:2]), pid=os.getpid())
    server = _Server(config, guard)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


class _Server(uvicorn.Server):
    """uvicorn's server, which also ends connections that use up their time."""

    def __init__(self, config: uvicorn.Config, guard: Guard) -> None:
        super().__init__(config)
        self._guard = guard

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._guard.sweep(self.server_state.connections)  # type: ignore[arg-type]  # they are of our class
        return await super().on_tick(counter)
