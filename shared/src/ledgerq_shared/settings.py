"""Settings that more than one service reads: where the stores are, and how to log.

Settings are read from the environment once, in a process's ``main``, and passed on. A bad value is one clear line.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import pydantic_settings
from pydantic import Field, FiniteFloat, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticKnownError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledgerq_shared import connecting, ids, redis_urls
from ledgerq_shared.languages import Said, SaidError, reason, say

_POSTGRES_SCHEMES = ("postgresql://", "postgres://")
_BROKER_SCHEMES = ("redis://", "rediss://", "valkey://", "valkeys://", "redis+socket://", redis_urls.SENTINEL)
#: Schemes that other clients of Redis accept and Celery or LedgerQ does not, and what to write instead.
_OTHER_SCHEMES = {
    "unix": say("write a Unix socket as 'redis+socket:///path/to/socket?virtual_host=0'"),
    "redis+sentinel": say("write 'sentinel://host:26379;sentinel://other:26379/0?master_name=NAME'"),
    "rediss+sentinel": say("Sentinel by TLS; use a tunnel, or a proxy by rediss://"),
    "sentinels": say("Sentinel by TLS; use a tunnel, or a proxy by rediss://"),
}


class SettingsError(SaidError):
    """A setting is missing or wrong; the text is one line that says which one, and what to do."""


class StoreSettings(BaseSettings):
    """Where PostgreSQL and Redis are. The four plain variables are the users' own names."""

    model_config = SettingsConfigDict(extra="ignore", case_sensitive=False)

    database_url: str = Field(
        description="PostgreSQL, the ledger: `postgresql://user:password@host:port/name`. Of several servers, "
        "`…@host:port,other:port/name`, the primary is meant."
    )
    database_replica_url: str | None = Field(
        None,
        description="A physical standby of it, for reads that may be a little old: lists, the monitor's counts, Flower. Of "
        "several servers one that is a standby is meant. Unset: the primary answers everything.",
    )
    redis_url: str | None = Field(
        None,
        description="Redis or Valkey; fills both Celery URLs where they are not set. By Sentinel: "
        "`sentinel://:password@host:26379;sentinel://other:26379/0?master_name=NAME`.",
    )
    celery_broker_url: str | None = Field(None, description="Celery's broker; `REDIS_URL` unless set.")
    celery_result_backend: str | None = Field(None, description="Celery's result backend; `REDIS_URL` unless set.")

    ledgerq_require_sync: int = Field(
        0,
        ge=0,
        le=100,
        description="Standbys that must have each commit on their disks before it is confirmed. API, workers and "
        "maintenance start only where `synchronous_commit` and `synchronous_standby_names` see to that; the monitor "
        "compares for as long as it runs. 0: whatever PostgreSQL does is enough.",
    )

    ledgerq_replica_max_lag: FiniteFloat = Field(
        10.0,
        ge=2,
        le=3600,
        description="Seconds that what the replica shows may be old; where it is older, the primary answers. The leader of "
        "maintenance marks the time, so it is never known to be younger than a third of `LEDGERQ_LEADER_SECONDS`.",
    )

    ledgerq_cell: int = Field(
        0,
        ge=0,
        lt=ids.CELLS,
        description="Number of this ledger among several independent ones: task ids name it. The same for every process of "
        "a ledger, for ever; 0 unless there will be several.",
    )

    @field_validator("database_url")
    @classmethod
    def _plain_postgres_url(cls, url: str) -> str:
        return _plain_postgres(url, is_replica=False)

    @field_validator("database_replica_url")
    @classmethod
    def _plain_replica_url(cls, url: str | None) -> str | None:
        return _plain_postgres(url, is_replica=True) if url and url.strip() else None

    @field_validator("redis_url", "celery_broker_url", "celery_result_backend")
    @classmethod
    def _redis_url(cls, url: str | None) -> str | None:
        if url is None or not url.strip():
            return None
        url = url.strip()
        if advice := _OTHER_SCHEMES.get(url.partition("://")[0].lower()):
            raise ValueError(
                say("{beginning}which is not supported: {advice}", beginning=_beginning(url), advice=advice)
            )
        if not url.startswith(_BROKER_SCHEMES):
            raise ValueError(say("is not a Redis URL: {beginning}expected 'redis://'", beginning=_beginning(url)))
        # Celery and kombu know Valkey by Redis's name.
        for spelling, known in (("valkeys://", "rediss://"), ("valkey://", "redis://")):
            if url.startswith(spelling):
                url = known + url.removeprefix(spelling)
        redis_urls.access(url)  # raises if a Sentinel URL is wrong
        _check_port(url)
        return _verified(url if url.startswith(redis_urls.SENTINEL) else redis_urls.plain(url))

    @model_validator(mode="after")
    def _fill_celery_urls(self) -> Self:
        self.celery_broker_url = self.celery_broker_url or self.redis_url
        self.celery_result_backend = self.celery_result_backend or self.redis_url or self.celery_broker_url
        if self.celery_broker_url is None:
            raise ValueError(
                say("REDIS_URL (or CELERY_BROKER_URL) is not set although DATABASE_URL is: set both or neither")
            )
        return self

    @property
    def broker_url(self) -> str:
        """Celery's broker, where tickets go."""
        assert self.celery_broker_url is not None
        return self.celery_broker_url

    @property
    def result_backend(self) -> str:
        """Where Celery's own ``AsyncResult`` looks."""
        assert self.celery_result_backend is not None
        return self.celery_result_backend


class LogSettings(BaseSettings):
    """How a process logs."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level shown; `critical` is the same as `error`."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`console` for people, `json` for collectors; `auto`: console on a terminal."
    )
    debug: bool = Field(False, description="Log every SQL statement and every message to the broker.")

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, level: object) -> object:
        """Accept levels in capitals, too, as Celery spells them."""
        return (
            {"critical": "error", "fatal": "error"}.get(level.lower(), level.lower())
            if isinstance(level, str)
            else level
        )


class TracingSettings(BaseSettings):
    """Whether spans are collected. Where `otlp` sends them is told by OpenTelemetry's own `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    tracing: Literal["off", "console", "otlp"] = Field(
        "off",
        description="Spans of requests and attempts, with the extra `otel`: to standard error, or to a collector over HTTP.",
    )


class MetricsSettings(BaseSettings):
    """Where a worker or a maintenance process is scraped; the API and the monitor have it on their own ports."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_METRICS_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address of the metrics of a worker or a maintenance process.")
    port: int = Field(0, ge=0, le=65535, description="Port of these metrics, at `/metrics`; 0: none.")


Settings = TypeVar("Settings", bound=BaseSettings)


def load(settings_class: type[Settings]) -> Settings:
    """Build a settings object from the environment and from the files in the folder that LEDGERQ_SECRETS_DIR names.

    Raises:
        SettingsError: a variable is missing or wrong. The text does not repeat values, which may contain a password.
    """
    folder = os.environ.get("LEDGERQ_SECRETS_DIR") or None
    if folder is not None and not Path(folder).is_dir():
        raise SettingsError("LEDGERQ_SECRETS_DIR: there is no folder {folder}", folder=folder)
    try:
        return settings_class(_secrets_dir=folder)
    except (OSError, pydantic_settings.SettingsError) as error:
        cause = error.__cause__ or error
        why = reason(cause) if isinstance(cause, OSError) else say("it is not UTF-8 text")
        raise SettingsError(
            "LEDGERQ_SECRETS_DIR: a file in {folder} cannot be read: {why}", folder=folder, why=why
        ) from None
    except ValidationError as error:
        raise SettingsError(_explain(settings_class, error.errors()[0])) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``. A name other than ``localhost`` may mean anything."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return False


def _explain(settings_class: type[BaseSettings], error: ErrorDetails) -> Said:
    message = _message(error)
    if not error["loc"]:
        return message
    name = f"{settings_class.model_config.get('env_prefix', '')}{error['loc'][0]}".upper()
    return (
        say("{name} is not set", name=name)
        if error["type"] == "missing"
        else say("{name}: {message}", name=name, message=message)
    )


def _message(error: ErrorDetails) -> Said:
    """What a validator of ours has said, or Pydantic."""
    fields = error.get("ctx", {})
    if error["type"] == "value_error":
        [text] = fields["error"].args
        return text if isinstance(text, Said) else say(text)
    if error["type"] == "literal_error":
        *words, last = re.split(", | or ", fields["expected"])
        return say("Input should be {words} or {last}", words=", ".join(words), last=last)
    known: Any = PydanticKnownError
    return say(known(error["type"], fields or None).message_template, **fields)


def _beginning(url: str) -> Said:
    """The beginning of a URL, if it has a scheme; without a scheme the beginning may be a password."""
    found = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,30})://", url)
    return say("it begins with '{scheme}', ", scheme=found[1]) if found else say("")


def _plain_postgres(url: str, *, is_replica: bool) -> str:
    """Turn any SQLAlchemy spelling of the driver into libpq's plain form, because the driver is always psycopg2."""
    scheme, separator, rest = url.strip().partition("://")
    plain = f"{scheme.split('+')[0].lower()}{separator}{rest}"
    if not plain.startswith(_POSTGRES_SCHEMES):
        raise ValueError(say("is not a PostgreSQL URL: {beginning}expected 'postgresql://'", beginning=_beginning(url)))
    plain = "postgresql://" + plain.split("://", 1)[1]
    connecting.check(plain, is_replica=is_replica)
    return plain


def _verified(url: str) -> str:
    """With TLS, verify the server's certificate unless the URL says otherwise: kombu would not verify it, and Celery
    would refuse the URL.
    """
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def _check_port(url: str) -> None:
    try:
        _ = urlsplit(url.split(";", maxsplit=1)[0]).port
    except ValueError:
        raise ValueError(say("has a port that is not a number between 0 and 65535")) from None
