"""Redis's connections in a process that runs tasks: what is no longer their own socket is neither written to nor closed.

redis-py goes by the number, which a task may have closed or given to another (:mod:`ledgerq_shared.descriptors`).
"""

from __future__ import annotations

import functools
from typing import Any

import structlog
from redis import connection as redis_connection

from ledgerq_shared.descriptors import identity

log = structlog.get_logger()


def watch() -> None:
    """From now on, in this process and those that it forks."""
    base: Any = redis_connection.AbstractConnection
    name = "connect_check_health" if hasattr(base, "connect_check_health") else "connect"  # of an older redis-py
    connect, disconnect = getattr(base, name), base.disconnect
    if hasattr(connect, "__wrapped__"):
        return

    @functools.wraps(connect)
    def careful_connect(self: Any, *arguments: Any, **options: Any) -> None:
        """Called whenever a connection is taken from a pool, too: does nothing if it is connected."""
        _leave_stranger(self)
        if not self._sock:
            connect(self, *arguments, **options)
            self._own_socket = identity(self._sock.fileno())

    @functools.wraps(disconnect)
    def careful_disconnect(self: Any, *arguments: Any, **options: Any) -> None:
        _leave_stranger(self)
        disconnect(self, *arguments, **options)
        self._own_socket = None

    setattr(base, name, careful_connect)
    base.disconnect = careful_disconnect


def _leave_stranger(connection: Any) -> None:
    own, sock = getattr(connection, "_own_socket", None), connection._sock  # noqa: SLF001
    if own is not None and sock is not None and identity(sock.fileno()) != own:
        connection._own_socket = None  # noqa: SLF001
        log.warning(
            "redis.socket_lost", what="a task closed or replaced the socket of this connection: connecting anew"
        )
        sock.detach()
        connection.disconnect()
