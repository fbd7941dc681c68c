"""Where the stores are, and what each service gets in its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from launcher.errors import UsageError
from ledgerq_shared.process.logging import is_for_people
from ledgerq_shared.settings import SettingsError, StoreSettings, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.options import Options

REDIS_VARIABLES = ("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")


@dataclass(frozen=True)
class Configuration:
    """What one launch needs to know. ``stores`` is None when the embedded servers are to be used."""

    stores: StoreSettings | None
    data_folder: Path
    api_host: str
    api_port: int
    monitor_port: int
    flower_port: int
    #: The port of the worker's metrics; maintenance has the next port. None: neither is scraped.
    metrics_port: int | None
    grace_seconds: float
    #: Whether a person reads what the processes write, on a terminal; `LEDGERQ_LOG_FORMAT` can say so, too.
    is_for_people: bool = False


def read_environment(folder: Path) -> None:
    """Add ``.env`` of ``folder`` to this process's environment; variables that are already set take precedence."""
    path = folder / ".env"
    if path.is_file():
        for name, value in dotenv_values(path).items():
            if value is not None:
                os.environ.setdefault(name, value)
    for name in ("DATABASE_URL", *REDIS_VARIABLES):
        if not os.environ.get(name, "x").strip():
            del os.environ[name]  # `REDIS_URL=` in a copied example means: not set


def configure(environment: Mapping[str, str], options: Options) -> Configuration:
    """Decide between configured and embedded stores. Raises :class:`UsageError`."""
    return Configuration(
        stores=_stores(environment),
        data_folder=Path(environment.get("LEDGERQ_DATA_DIR") or ".ledgerq"),
        api_host=environment.get("LEDGERQ_API_HOST") or "127.0.0.1",
        api_port=options.api_port or _port(environment, "LEDGERQ_API_PORT", 8000),
        monitor_port=_port(environment, "LEDGERQ_MONITOR_PORT", 8001),
        flower_port=_port(environment, "LEDGERQ_FLOWER_PORT", 5555),
        metrics_port=_metrics_port(environment, options),
        grace_seconds=_seconds(environment, "LEDGERQ_GRACE_SECONDS", 30.0),
        is_for_people=is_for_people(environment.get("LEDGERQ_LOG_FORMAT") or "auto"),
    )


def service_environment(
    environment: Mapping[str, str], options: Options, configuration: Configuration, stores: StoreSettings
) -> dict[str, str]:
    """Return the environment of the services: our own environment, and what flags and stores add."""
    told = {
        "DATABASE_URL": stores.database_url,
        "REDIS_URL": stores.redis_url or stores.broker_url,
        "CELERY_BROKER_URL": stores.broker_url,
        "CELERY_RESULT_BACKEND": stores.result_backend,
        "LEDGERQ_API_PORT": str(configuration.api_port),
        "LEDGERQ_MONITOR_PORT": str(configuration.monitor_port),
        "LEDGERQ_FLOWER_PORT": str(configuration.flower_port),
    }
    if options.api_reload:
        told["LEDGERQ_API_RELOAD"] = "true"
    if options.debug:
        told["LEDGERQ_DEBUG"] = "true"
    if configuration.is_for_people and not environment.get("LEDGERQ_LOG_LEVEL"):
        told["LEDGERQ_LOG_LEVEL"] = "warning"  # the screen says what is well
    return {**environment, **told}


def worker_environment(
    environment: Mapping[str, str], options: Options, configuration: Configuration
) -> dict[str, str]:
    """Return the worker's environment: the services', the worker's own flags, and where it is scraped."""
    told = {"LEDGERQ_METRICS_PORT": str(configuration.metrics_port or 0)}
    if options.worker_concurrency is not None:
        told["LEDGERQ_WORKER_CONCURRENCY"] = str(options.worker_concurrency)
    if options.worker_reload:
        told["LEDGERQ_WORKER_RELOAD"] = "true"
    if options.worker_loglevel is not None:
        told["LEDGERQ_LOG_LEVEL"] = options.worker_loglevel
    return {**environment, **told}


def maintenance_environment(workers: Mapping[str, str], configuration: Configuration) -> dict[str, str]:
    """Return maintenance's environment: the worker's, with the next port for its metrics, if metrics are wanted."""
    port = configuration.metrics_port
    return {**workers, "LEDGERQ_METRICS_PORT": str(0 if port is None else port + 1)}


def _stores(environment: Mapping[str, str]) -> StoreSettings | None:
    redis = [name for name in REDIS_VARIABLES if environment.get(name)]
    if "DATABASE_URL" not in environment:
        if redis:
            raise UsageError(
                "{redis} is set but DATABASE_URL is not: set both, or neither for the embedded servers", redis=redis[0]
            )
        return None
    if not redis:
        raise UsageError("DATABASE_URL is set but REDIS_URL is not: set both, or neither for the embedded servers")
    try:
        return load(StoreSettings)
    except SettingsError as error:
        raise UsageError(error.said) from None


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UsageError("{name}: {text!r} is not a port between 1 and 65535", name=name, text=text)
    return int(text)


def _metrics_port(environment: Mapping[str, str], options: Options) -> int | None:
    """The port of the worker's metrics: a person who starts the monitor wants to see the worker's figures, too."""
    if environment.get("LEDGERQ_METRICS_PORT") == "0":
        return None
    port = _port(environment, "LEDGERQ_METRICS_PORT", 8002)
    if port == 65535:
        raise UsageError("LEDGERQ_METRICS_PORT: maintenance takes the port after it: set 65534 at most")
    return port if options.monitor or environment.get("LEDGERQ_METRICS_PORT") else None


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise UsageError("{name}: {text!r} is not a number of seconds", name=name, text=text)
    return seconds
