"""How Redis is reached. Only this module makes a client from a Redis URL, or tells Celery what the URL means."""

from __future__ import annotations

from typing import Any

from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError

from ledgerq_shared import outages
from ledgerq_shared.faults import Fault
from ledgerq_shared.redis_faults import fault_of, refuses_writes
from ledgerq_shared.redis_urls import access

_AWAY = "sentinels do not answer, or the ones that do know no such master that is up"
_UNKNOWN = "all sentinels answer, and know no such master that is up"

#: Errors that a client may raise when Redis does not answer.
REDIS_ERRORS = (RedisError, OperationalError, OSError)


def connection(url: str, *, client_name: str, timeout: float) -> Any:
    """A kombu connection, not yet opened: ``default_channel.client`` is redis-py's client of the present master.

    After an error, release it and make another one. Without Sentinel, the master is the server that the URL names.

    Args:
        client_name: shown in ``CLIENT LIST``: which process holds a connection.
        timeout: seconds for any command.
    """
    place = access(url)
    options = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "client_name": client_name.replace(" ", "-"),  # Redis accepts no spaces
        "max_retries": 0,  # kombu's default blocks for six seconds when Redis refuses connections
        **place.options,
    }
    make: Any = Connection
    return make(place.url, transport_options=options)


def celery_broker(url: str) -> dict[str, Any]:
    """Celery's settings for this broker."""
    place = access(url)
    return {"broker_url": place.url, "broker_transport_options": place.options}


def celery_result_backend(url: str) -> dict[str, Any]:
    """Celery's settings for this result backend."""
    place = access(url)
    return {"result_backend": place.url, "result_backend_transport_options": place.options}


def describe(error: BaseException) -> str:
    """Why Redis does not answer, in one line. redis-py's own message for a missing master lists several clients."""
    cause = error.__cause__ if isinstance(error, OperationalError) and error.__cause__ else error
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, MasterNotFoundError):
        found, _, failures = text.partition(" : ")
        return f"{found}: {_AWAY if failures else _UNKNOWN}"
    return text


def note_failure(error: BaseException) -> bool:
    """Note an error that means that Redis is away or takes no writes, so that the log reports it. Returns whether it
    was such an error.
    """
    if fault_of(error) not in (Fault.REPEAT, Fault.RECONNECT):
        return False
    outage = outages.REDIS_WRITES if refuses_writes(error) else outages.REDIS
    outage.failed(describe(error))
    return True


def note_success(*, writes: bool) -> None:
    """Note that Redis has answered; with ``writes``, that it has accepted a command that it refuses when it is full."""
    if outages.REDIS.is_on:
        outages.REDIS.worked()
    if outages.REDIS_WRITES.is_on:
        outages.REDIS_WRITES.worked(is_same_kind=writes)
