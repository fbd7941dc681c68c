"""Asks each store whether it answers, over a fresh connection each time, so that no pool can hide an outage."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledgerq_shared import redis_access
from ledgerq_shared.connecting import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS = 3


@dataclass(frozen=True)
class Answer:
    """The answer of one store. ``error``: the kind of failure, without addresses or passwords; None if all is well."""

    well: bool
    milliseconds: float
    error: str | None


def ask_postgres(url: str) -> Answer:
    """Connect to PostgreSQL and run the smallest query."""
    return _timed(lambda: _query(url))


def ask_redis(url: str) -> Answer:
    """Connect to Redis and ping it."""
    return _timed(lambda: _ping(url))


@contextlib.contextmanager
def redis_client(url: str, *, timeout: float) -> Iterator[Any]:
    """A client of Redis on a connection of its own, for every kind of URL that the settings accept."""
    with redis_access.connection(url, client_name="ledgerq-monitor", timeout=timeout) as opened:
        yield opened.default_channel.client


def _timed(question: Callable[[], None]) -> Answer:
    begun = time.perf_counter()
    error = None
    try:
        question()
    except Exception as failure:  # whatever the drivers raise, the store did not answer
        error = type(failure.__cause__ or failure).__name__
    return Answer(error is None, round((time.perf_counter() - begun) * 1000, 2), error)


def _query(url: str) -> None:
    connection = connect(url, connect_timeout=_SECONDS, application_name="ledgerq-monitor")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def _ping(url: str) -> None:
    with redis_client(url, timeout=_SECONDS) as client:
        client.ping()
