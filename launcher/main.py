"""The sequence: parse, configure, check, start, supervise, stop."""

from __future__ import annotations

import http.client
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import checks, screen
from launcher.configuration import (
    Configuration,
    configure,
    maintenance_environment,
    read_environment,
    service_environment,
    worker_environment,
)
from launcher.errors import LauncherError
from launcher.leftovers import end_leftovers
from launcher.options import Options, parse
from launcher.signals import StopRequest
from launcher.stores import Stores
from launcher.supervisor import Service, Supervisor
from ledgerq_shared.embedded import EmbeddedError, EmbeddedServers
from ledgerq_shared.languages import reason, say
from ledgerq_shared.process import output
from ledgerq_shared.process.commands import complain, translate_parsers
from ledgerq_shared.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

_READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.2


def run(arguments: list[str]) -> int:
    """Run the launcher until it is told to stop; return the exit code."""
    output.guard()
    read_environment(Path.cwd())  # which also names the language
    translate_parsers()
    try:
        options = parse(arguments)
        configuration = configure(os.environ, options)
    except LauncherError as error:
        complain("ledgerq", error.said)
        return error.exit_code
    try:
        _launch(options, configuration)
    except LauncherError as error:
        complain("ledgerq", error.said)
        return error.exit_code
    except EmbeddedError as error:
        complain("ledgerq", error.said)
        return 1
    except OSError as error:
        # A write that fails, to a full disk, names no file; the launcher writes only into the data folder.
        place = error.filename or configuration.data_folder.resolve()
        why = reason(error)
        complain("ledgerq", say("{place}: {why} (LEDGERQ_DATA_DIR names another folder)", place=place, why=why))
        return 2
    return 0


def _launch(options: Options, configuration: Configuration) -> None:
    stop_request = StopRequest()
    stop_request.listen()
    run_folder = configuration.data_folder / "run"
    servers = EmbeddedServers(configuration.data_folder)
    for name in end_leftovers(run_folder):
        complain("ledgerq", say("ended a {name} that an earlier launcher left behind", name=say(name)))
    servers.stop_leftovers()
    _check(options, configuration)
    if configuration.is_for_people:
        complain("ledgerq", say("starting ..."))
    supervisor = Supervisor(run_folder, stop_request)
    try:
        stores = configuration.stores or _start_embedded(servers)
        environment = service_environment(os.environ, options, configuration, stores)
        registered = _start_services(supervisor, options, configuration, environment, stop_request)
        _wait_until_ready(supervisor, options, configuration, stop_request)
        if not stop_request.asked():
            screen.show(configuration, options, registered)
        embedded = None if configuration.stores else Stores(servers)
        while not stop_request.wait(_LOOK_SECONDS):
            supervisor.look_after()
            if embedded is not None:
                embedded.look_after()
        complain("ledgerq", say("stopping (again Ctrl-C: at once)"))
    finally:
        supervisor.stop()
        servers.stop()


def _check(options: Options, configuration: Configuration) -> None:
    checks.ports_are_free(_ports(options, configuration))
    if configuration.stores is not None:
        checks.postgres_answers(configuration.stores.database_url)
        checks.redis_answers(configuration.stores)


def _ports(options: Options, configuration: Configuration) -> Iterator[checks.Port]:
    if options.api:
        yield checks.Port(configuration.api_host, configuration.api_port, "--api-port")
    if options.monitor:
        yield checks.Port("127.0.0.1", configuration.monitor_port, "LEDGERQ_MONITOR_PORT")
        yield checks.Port("127.0.0.1", configuration.flower_port, "LEDGERQ_FLOWER_PORT")
    if options.worker and configuration.metrics_port is not None:
        for port in (configuration.metrics_port, configuration.metrics_port + 1):
            yield checks.Port("127.0.0.1", port, "LEDGERQ_METRICS_PORT")


def _start_embedded(servers: EmbeddedServers) -> StoreSettings:
    urls = servers.start()
    # The settings class reads the environment for a missing argument, so all four are given.
    return StoreSettings(
        database_url=urls.database_url,
        redis_url=urls.redis_url,
        celery_broker_url=urls.redis_url,
        celery_result_backend=urls.redis_url,
    )


def _start_services(
    supervisor: Supervisor,
    options: Options,
    configuration: Configuration,
    environment: dict[str, str],
    stop_request: StopRequest,
) -> str:
    """Return what the registration says about the task types, as JSON."""
    supervisor.run_step("the migration", ("-m", "ledgerq_shared.migrate", "upgrade"), environment)
    said = ""
    if not stop_request.asked():
        register = ("-m", "ledgerq_worker", "register", "--json")
        said = supervisor.run_step("the registration of task types", register, environment)
    for service in _services(options, configuration, environment):
        if not stop_request.asked():
            supervisor.start(service)
    return said


def _services(options: Options, configuration: Configuration, environment: dict[str, str]) -> Iterator[Service]:
    """Yield the services in the order in which they are also stopped: first the one that accepts new work."""
    if options.api:
        yield Service("API", ("-m", "ledgerq_api"), environment, _STOP_SECONDS)
    if options.worker:
        workers = worker_environment(environment, options, configuration)
        patience = configuration.grace_seconds + _STOP_SECONDS
        # Our own supervisor may have sent SIGTERM to all processes; a second one would be a request to hurry.
        yield Service("worker", ("-m", "ledgerq_worker", "run"), workers, patience, stop_signal=signal.SIGINT)
        maintenance = maintenance_environment(workers, configuration)
        yield Service("maintenance", ("-m", "ledgerq_worker", "maintenance"), maintenance, _STOP_SECONDS)
    if options.monitor:
        yield Service("monitor", ("-m", "ledgerq_monitor"), environment, _STOP_SECONDS)
        yield Service("Flower", ("-m", "ledgerq_monitor.flower"), environment, _STOP_SECONDS)


def _wait_until_ready(
    supervisor: Supervisor, options: Options, configuration: Configuration, stop_request: StopRequest
) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    host = screen.visible_host(configuration.api_host).strip("[]")
    while options.api and not _is_ready(host, configuration.api_port):
        if stop_request.wait(_LOOK_SECONDS):
            return
        supervisor.look_after()
        if time.monotonic() > deadline:
            raise LauncherError(
                "the API was not ready within {seconds:.0f} s: its log stands above", seconds=_READY_SECONDS
            )


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
