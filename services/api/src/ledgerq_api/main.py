"""``ledgerq-api``: check the settings and the stores, then listen."""

from __future__ import annotations

import ledgerq_shared.process.lean_imports  # noqa: F401 - comes first  # isort: skip

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import ChangeReload

from ledgerq_api.answers.refusal_counts import note_refusal
from ledgerq_api.app import Services, build_services, create_app, replica_of
from ledgerq_api.requests.access_log import note_and_write_refusal
from ledgerq_api.requests.origin import log_fields
from ledgerq_api.settings import ApiSettings
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.front_door import Guard, Guarded, Limits
from ledgerq_shared.listening import listen, url_of
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.durability import check_durability
from ledgerq_shared.process import heap, output
from ledgerq_shared.process.commands import complain
from ledgerq_shared.process.logging import configure
from ledgerq_shared.process.signals import treat_as_sigterm
from ledgerq_shared.process.tracing import flush_spans, start_tracing
from ledgerq_shared.revision import check_revision
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, TracingSettings, is_loopback, load
from ledgerq_shared.statements.api_keys import read_usable_keys

#: Seconds that open requests get after SIGTERM.
_GRACE = 10
#: Seconds between two renewals of the time in the answers' header `date`, which has whole seconds.
_DATE_EVERY = 1.0

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM or Ctrl-C. An error that prevents this is one line and a non-zero exit code."""
    output.guard()
    try:
        settings = load(ApiSettings)
        logs = load(LogSettings)
        stores = load(StoreSettings)
        configure(logs, service="api", context=log_fields, prints=log_fields)
        start_tracing(load(TracingSettings), service="api")
        _allow_many_connections()
        listener = listen(settings.api_host, settings.api_port, prefix="API")
        has_keys = _check_ledger(stores, settings)
    except (SettingsError, LedgerQError) as error:
        complain("ledgerq-api", error.said)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    host, port = listener.getsockname()[:2]
    if not has_keys and not is_loopback(settings.api_host):
        log.warning("api.anonymous", hint="anybody who can reach this address can submit tasks")
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops cleanly and then raises the signal again, which is a good end and not a failure.
        signal.signal(number, lambda *_: sys.exit(0))
    treat_as_sigterm()
    log.info("api.listening", url=url_of(host, port), pid=os.getpid(), keys="required" if has_keys else "none")
    if settings.api_reload:
        _serve_with_reload(listener, settings)
    else:
        services = build_services(stores, settings, debug=logs.debug)
        app = create_app(services, settings)
        heap.freeze()
        limits = Limits(connections=settings.api_connections, held_bytes=settings.api_memory_budget * 1024 * 1024)
        guard = Guard(limits, note_and_write_refusal if settings.api_access_log else _note_refusal)
        config = _config(app, settings, http=type("Connection", (Guarded, HttpToolsProtocol), {"guard": guard}))
        _Server(config, services, guard).run(sockets=[listener])


def reloaded_app() -> FastAPI:
    """The application of a process that the reloader starts anew after each edit."""
    logs = load(LogSettings)
    configure(logs, service="api", context=log_fields, prints=log_fields)
    start_tracing(load(TracingSettings), service="api")
    settings = load(ApiSettings)
    return create_app(build_services(load(StoreSettings), settings, debug=logs.debug), settings)


def _note_refusal(error: LedgerQError, address: str, _scope: object) -> None:
    note_refusal(error, address)


class _Server(uvicorn.Server):
    """uvicorn's server; it answers clients that long-poll before it waits for them to go, and sleeps while nothing
    happens.
    """

    def __init__(self, config: uvicorn.Config, services: Services, guard: Guard) -> None:
        super().__init__(config)
        self._services = services
        self._guard = guard
        self._wake: Callable[[], object] | None = None

    async def main_loop(self) -> None:
        """Run until a signal asks for the end. Uvicorn checks for one ten times a second; here the signal wakes the
        loop.
        """
        asked = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, asked.set)
        while not await self.on_tick(0):  # also renews the header `date`
            self._guard.sweep(self.server_state.connections)  # type: ignore[arg-type]  # they are of our class
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_EVERY):
                    await asked.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal, and do not wait for the next tick."""
        super().handle_exit(sig, frame)
        if self._wake is not None:
            self._wake()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._services.stop_waiting()
        await super().shutdown(sockets)
        flush_spans()


def _is_news(record: logging.LogRecord) -> bool:
    """Leaves out records for which we have a line of our own: problems.py writes one with the request's id, and the
    front door one for many refusals.
    """
    text = record.getMessage()
    return not ("Exception in ASGI" in text or text.startswith(("Invalid HTTP request", "Unsupported upgrade")))


def _config(app: FastAPI | str, settings: ApiSettings, **options: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="none",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=settings.api_keep_alive,
        **options,  # type: ignore[arg-type]
    )


def _serve_with_reload(listener: socket.socket, settings: ApiSettings) -> None:
    config = _config(
        "ledgerq_api.main:reloaded_app",
        settings,
        http="httptools",
        factory=True,
        reload=True,
        reload_dirs=[str(path) for path in _watched()],
    )
    ChangeReload(config, target=uvicorn.Server(config).run, sockets=[listener]).run()


def _watched() -> list[Path]:
    """Folders whose Python files matter: our own packages, and the folders of the users' task modules."""
    import ledgerq_api
    import ledgerq_shared

    packages = [Path(package.__file__).parent for package in (ledgerq_api, ledgerq_shared) if package.__file__]
    return [*packages, Path.cwd()]


def _allow_many_connections() -> None:
    """Each stream is an open file, and many systems allow a process 1,024 of them unless it asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS says "unlimited" but allows less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_ledger(stores: StoreSettings, settings: ApiSettings) -> bool:
    """Whether an API key was ever created. PostgreSQL must be there and migrated, and an address that others can reach
    needs a key. Redis may come later, because tasks are accepted without it.
    """
    # Its connection also asks for the ledger's time, before the first id is made.
    database = Database(
        stores.database_url, application_name="ledgerq-api", size=1, keeps_statements=True, is_brief=True
    )
    try:
        check_revision(database)
        check_durability(database, stores.ledgerq_require_sync)
        _check_replica(stores, database)
        with database.transaction() as cursor:
            first = execute(cursor, read_usable_keys())[0]
    finally:
        database.close()
    if not first.is_any and not settings.is_open:
        raise SettingsError(
            "LEDGERQ_API_HOST={host} is not a loopback address, and there is no API key: make one "
            "with `ledgerq keys create`, listen on 127.0.0.1, or set LEDGERQ_ALLOW_ANONYMOUS=true to "
            "let anybody in",
            host=settings.api_host,
        )
    if first.is_any and first.id is None:
        log.warning("api.no_usable_key", hint="every API key is revoked or expired, so nobody can call anything")
    return first.is_any


def _check_replica(stores: StoreSettings, ledger: Database) -> None:
    replica = replica_of(stores, ledger)
    if replica is not None:
        try:
            replica.check()
        finally:
            replica.close()
