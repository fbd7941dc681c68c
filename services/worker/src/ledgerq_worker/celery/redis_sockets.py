"""Redis's connections in a process that runs tasks: if a connection's descriptor is no longer its own socket, it is
neither written to nor closed.

redis-py knows its socket by the number, which a task may have closed or given to another file
(:mod:`ledgerq_shared.process.descriptors`).
"""

from __future__ import annotations

import functools
from typing import Any

import structlog
from redis import connection as redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError

from ledgerq_shared.process.descriptors import identity

log = structlog.get_logger()

_LOST = "a task closed or replaced the socket of this connection"


def watch() -> None:
    """Watch from now on, in this process and in those that it forks."""
    base: Any = redis_connection.AbstractConnection
    name = "connect_check_health" if hasattr(base, "connect_check_health") else "connect"  # of an older redis-py
    connect, disconnect, send = getattr(base, name), base.disconnect, base.send_packed_command
    if hasattr(connect, "__wrapped__"):
        return

    @functools.wraps(connect)
    def careful_connect(self: Any, *arguments: Any, **options: Any) -> None:
        """This is also called whenever a connection is taken from a pool; it does nothing if it is connected."""
        _leave_stranger(self)
        if not self._sock:
            connect(self, *arguments, **options)
            self._own_socket = identity(self._sock.fileno())

    @functools.wraps(send)
    def careful_send(self: Any, *arguments: Any, **options: Any) -> None:
        """Raises an error if the socket is not its own, so that a program that keeps a connection for long (Celery's
        consumer) knows that it needs another one.
        """
        if _leave_stranger(self):
            raise RedisConnectionError(_LOST)
        send(self, *arguments, **options)

    @functools.wraps(disconnect)
    def careful_disconnect(self: Any, *arguments: Any, **options: Any) -> None:
        _leave_stranger(self)
        disconnect(self, *arguments, **options)
        self._own_socket = None

    setattr(base, name, careful_connect)
    base.disconnect = careful_disconnect
    base.send_packed_command = careful_send


def _leave_stranger(connection: Any) -> bool:
    """Whether the connection's socket is no longer its own. In that case the connection forgets it."""
    own, sock = getattr(connection, "_own_socket", None), connection._sock  # noqa: SLF001
    if own is None or sock is None or identity(sock.fileno()) == own:
        return False
    connection._own_socket = None  # noqa: SLF001
    log.warning("redis.socket_lost", what=f"{_LOST}: connecting anew")
    sock.detach()
    connection.disconnect()
    return True
