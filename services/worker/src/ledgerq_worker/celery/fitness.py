"""Refuses an existing application whose configuration cannot work here, at the worker's start and in one line.

What would be ignored silently is refused: messages that no worker could read, or that go to another broker, a pool that
is not the one that runs, and code that runs only in Celery's own consumer.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from celery import Celery, Task

from ledgerq_shared import redis_urls
from ledgerq_shared.languages import say
from ledgerq_shared.settings import SettingsError

_JSON = ("json", "application/json")
_SERIALIZERS = ("task_serializer", "result_serializer")
_BROKERS = ("broker_url", "broker_read_url", "broker_write_url")
_REDIS = ("redis", "rediss", "valkey", "valkeys", "sentinel", "redis+socket", "redis+sentinel")
_SERVERS = ("redis://", "rediss://", "valkey://", "valkeys://")
_GREEN = ("gevent", "eventlet")


def check_settings(app: Celery, *, broker_url: str, pool_is_given: bool) -> None:
    """Refuse an application by its own settings, before the worker's take their place.

    Args:
        broker_url: the worker's.
        pool_is_given: whether somebody has chosen the worker's pool, so that the application's does not matter.

    Raises:
        SettingsError
    """
    for name in _SERIALIZERS:
        if (value := app.conf.get(name)) not in _JSON:
            raise _unfit(
                "its {name} is {value!r}, and LedgerQ reads only JSON: set it to 'json', also in its clients",
                name=name, value=value,
            )  # fmt: skip
    accepted = app.conf.accept_content
    if accepted is not None and not set(accepted) & set(_JSON):
        raise _unfit("its accept_content has no 'json', and LedgerQ reads only JSON: add it")
    for name in _BROKERS:
        for url in _urls(app, name):
            _check_broker(name, url, broker_url)
    pool = app.conf.worker_pool
    if isinstance(pool, str) and not pool_is_given and any(word in pool for word in _GREEN):
        raise _unfit(
            "its worker_pool is {pool!r}: LEDGERQ_WORKER_POOL can be prefork, threads or solo; set it", pool=pool
        )


def check_tasks(app: Celery) -> None:
    """Refuse an application by its tasks, when all of them are imported.

    Raises:
        SettingsError
    """
    for name, task in sorted(app.tasks.items()):
        if name.startswith("ledgerq."):
            continue
        if task.serializer not in (None, *_JSON):
            raise _unfit(
                "the serializer of task {name} is {value!r}, and LedgerQ reads only JSON: leave it out",
                name=name,
                value=task.serializer,
            )
        if task.Strategy != Task.Strategy:
            raise _unfit(
                "task {name} has a Strategy of its own (as celery-batches has), which runs in Celery's consumer only: "
                "give the task another base class",
                name=name,
            )


def _urls(app: Celery, name: str) -> Iterator[str]:
    # What its clients use: the attribute looks into the environment (CELERY_BROKER_URL), which wins over the application.
    value = getattr(app.conf, name)
    for part in value if isinstance(value, (list, tuple)) else str(value or "").split(";"):
        if part and part.strip():
            yield str(part).strip()


def _check_broker(name: str, url: str, ours: str) -> None:
    scheme = url.partition(":")[0].lower()
    if scheme not in _REDIS:
        raise _unfit(
            "its {name} begins with {scheme!r}, and LedgerQ's broker is Redis or Valkey: change it",
            name=name,
            scheme=scheme,
        )
    try:
        first, second = _read(url), _read(ours)
    except ValueError:
        raise _unfit("its {name} has a port or a database that is no number", name=name) from None
    if not _may_be_one(first, second):
        raise _unfit(
            "its {name} names another Redis ({theirs}) than the worker's ({ours}), so what its clients send would never "
            "arrive: make them alike, or set CELERY_BROKER_URL everywhere, which wins",
            name=name,
            theirs=_place(first),
            ours=_place(second),
        )


def _read(url: str) -> SplitResult:
    """The URL's parts, with its database as the path. Of what follows '?' only the database matters: an application may
    give its clients more there than the worker takes.

    Raises:
        ValueError: its port or its database cannot be read.
    """
    address, _, query = url.partition("?")
    if not address.lower().startswith(_SERVERS):
        return urlsplit(url)
    database = urlencode([(name, value) for name, value in parse_qsl(query) if name == "db"])
    parts = urlsplit(redis_urls.plain(f"{address}?{database}" if database else address))
    _ = parts.port  # Only now does urllib look whether it is a number.
    return parts


def _may_be_one(first: SplitResult, second: SplitResult) -> bool:
    """Whether two URLs may name the same database of the same server; of Sentinel and sockets nobody can tell."""
    if any(f"{part.scheme}://" not in _SERVERS or not part.hostname for part in (first, second)):
        return True
    if (first.port or 6379, _database(first)) != (second.port or 6379, _database(second)):
        return False
    return first.hostname == second.hostname or bool(_addresses(first.hostname) & _addresses(second.hostname))


def _database(parts: SplitResult) -> str:
    return parts.path.strip("/") or "0"


def _addresses(host: str | None) -> set[str]:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
    return {"127.0.0.1" if one == "::1" else one for one in found}


def _place(parts: SplitResult) -> str:
    """Where a URL leads, without its password."""
    return f"{parts.hostname}:{parts.port or 6379}/{_database(parts)}"


def _unfit(template: str, /, **fields: object) -> SettingsError:
    return SettingsError("LEDGERQ_CELERY_APP: the application cannot run here: {why}.", why=say(template, **fields))
