"""Checks before anything is started whether it can work at all; each error is one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import psycopg2

from launcher.errors import LauncherError, UsageError
from ledgerq_shared.connecting import connect, describe
from ledgerq_shared.embedded.ports import is_free
from ledgerq_shared.languages import say
from ledgerq_shared.redis_urls import SENTINEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ledgerq_shared.settings import StoreSettings

_CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Port:
    """A port that will be needed; ``change`` names the setting that chooses another."""

    host: str
    number: int
    change: str


def ports_are_free(ports: Iterable[Port]) -> None:
    """Raise :class:`LauncherError`, which names every port on which another process listens, if there is one."""
    taken = [port for port in ports if not is_free(port.number, port.host)]
    if len(taken) == 1:
        [one] = taken
        raise LauncherError(
            "port {port} on {host} is in use: stop what listens there, or choose another with {setting}",
            port=one.number,
            host=one.host,
            setting=one.change,
        )
    if taken:
        listed = ", ".join(f"{port.number} ({port.change})" for port in taken)
        raise LauncherError(
            "ports are in use: {listed}: stop what listens there, or choose others with these settings", listed=listed
        )


def postgres_answers(url: str) -> None:
    """Connect once. Raises :class:`LauncherError` or, for a URL that cannot be one, :class:`UsageError`."""
    _no_stray_characters("DATABASE_URL", url)
    try:
        connect(url, connect_timeout=_CONNECT_SECONDS, application_name="ledgerq-launcher").close()
    except psycopg2.ProgrammingError:
        # libpq's text quotes parts of the URL, which can be parts of a password
        raise UsageError(
            "DATABASE_URL is not a PostgreSQL URL: expected postgresql://user:password@host:port/name"
        ) from None
    except psycopg2.OperationalError as error:
        raise LauncherError("PostgreSQL (DATABASE_URL): {why}", why=_one_line(describe(error), url)) from None


def redis_answers(stores: StoreSettings) -> None:
    """Ping every Redis that is configured, each once."""
    urls = {
        "REDIS_URL": stores.redis_url,
        "CELERY_BROKER_URL": stores.broker_url,
        "CELERY_RESULT_BACKEND": stores.result_backend,
    }
    seen = set()
    for name, url in urls.items():
        if url and url not in seen:
            seen.add(url)
            _ping(name, url)


def _ping(name: str, url: str) -> None:
    # Redis' client takes longer to load than all else here, and most launches run a Redis of their own.
    from ledgerq_shared import redis_access

    for one in url.split(";") if url.startswith(SENTINEL) else [url]:
        _no_stray_characters(name, one)
    try:
        with redis_access.connection(url, client_name="ledgerq-launcher", timeout=_CONNECT_SECONDS) as connection:
            connection.default_channel.client.ping()
    except redis_access.REDIS_ERRORS as error:
        raise LauncherError(
            "Redis ({name}): {why}", name=name, why=_one_line(redis_access.describe(error), url)
        ) from None
    except (ValueError, TypeError):
        raise UsageError("{name} is not a Redis URL: expected redis://:password@host:port/0", name=name) from None


def _no_stray_characters(name: str, url: str) -> None:
    """Refuse an unescaped '@', '/' or '#' in a password: it turns the password's second half into a host, which errors
    then quote.
    """
    authority, _, query = url.partition("://")[2].partition("?")
    if (
        authority.count("@") > 1
        or "@" in authority.partition("/")[2]
        or "#" in authority
        or ("@" in query and "@" not in authority)
    ):
        raise UsageError("{name}: percent-encode '@', '/', '?' and '#' in its password (%40, %2F, %3F, %23)", name=name)


def _one_line(text: str, url: str) -> str:
    text = next(iter(text.strip().splitlines()), "").strip()
    if not text:
        return say("it does not say why")
    password = urlsplit(url).password
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, "***")
    return text
