"""Tickets: tiny Celery messages that say "this queue has work".

A ticket carries no task, so losing one, doubling one or holding one back can do no harm; the dispatcher's sweep of the
ledger replaces what was lost within a second. There are never more tickets in Redis than there are worker slots,
however long the backlog is.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from typing import Any

import structlog

from ledgerq_shared import redis_access

#: Name of the Celery task that a ticket calls.
DRAIN_TASK = "ledgerq.drain"

#: After a failure Redis is left alone for this long: the sweep will send what is missing.
_QUIET_AFTER_FAILURE = 1.0

log = structlog.get_logger()


class Broker:
    """Publishes tickets. Never raises because Redis is away: a ticket is a wake-up, not a promise.

    Args:
        url: as in the settings (``redis://``, ``rediss://``, ``redis+socket://``, ``sentinel://``).
        client_name: shown in ``CLIENT LIST``: which process holds a connection.
        timeout: seconds for any command.
    """

    def __init__(self, url: str, *, client_name: str, timeout: float = 2.0) -> None:
        self._url = url
        self._client_name = client_name
        self._timeout = timeout
        self._connection: Any = None
        self._client: Any = None
        self._lock = threading.Lock()
        self._quiet_until = 0.0

    def wake(self, queue: str, ready: int, slots: int) -> bool:
        """Make sure that up to ``min(ready, slots)`` tickets for ``queue`` are in the broker.

        Args:
            ready: how many tasks became ready.
            slots: how many worker slots serve the queue; with none, one ticket waits for the first worker.

        Returns:
            False if Redis is away.
        """
        wanted = min(ready, max(slots, 1))
        if wanted <= 0:
            return True
        with self._lock:
            if time.monotonic() < self._quiet_until:
                return False
            try:
                client = self._connected()
                missing = min(wanted, max(slots, 1) - client.llen(queue))
                if missing > 0:
                    client.lpush(queue, *(ticket(queue) for _ in range(missing)))
                    log.debug("broker.tickets", queue=queue, tickets=missing)
                return True
            except Exception as error:  # whatever the transport raises: Redis is away or misbehaves
                self._fail(error)
                return False

    def has_tickets(self, queue: str) -> bool:
        """Whether a ticket for ``queue`` waits in the broker; false if Redis is away."""
        with self._lock:
            if time.monotonic() < self._quiet_until:
                return False
            try:
                return bool(self._connected().llen(queue))
            except Exception as error:
                self._fail(error)
                return False

    def ping(self) -> bool:
        """Whether Redis answers."""
        with self._lock:
            try:
                return bool(self._connected().ping())
            except Exception as error:
                self._fail(error)
                return False

    def close(self) -> None:
        """Drop the connection."""
        with self._lock:
            self._drop()

    def _connected(self) -> Any:
        if self._client is None:
            self._connection = redis_access.connection(self._url, client_name=self._client_name, timeout=self._timeout)
            self._client = self._connection.default_channel.client
        return self._client

    def _fail(self, error: Exception) -> None:
        log.warning("broker.unavailable", error=redis_access.describe(error))
        self._quiet_until = time.monotonic() + _QUIET_AFTER_FAILURE
        self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client = None
            try:
                self._connection.release()
            except Exception as error:  # it is broken anyway
                log.debug("broker.release_failed", error=str(error))


def ticket(queue: str) -> str:
    """A ticket for ``queue`` as kombu's Redis transport and Celery's protocol 2 spell a message.

    Built by hand because kombu needs 400 µs for it. A contract test compares it with what Celery itself sends.
    """
    return _TEMPLATE % {"id": uuid.uuid4(), "tag": uuid.uuid4(), "queue": json.dumps(queue), "body": _body(queue)}


def _body(queue: str) -> str:
    if queue not in _bodies:
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        _bodies[queue] = base64.b64encode(json.dumps([[queue], {}, embed]).encode()).decode()
    return _bodies[queue]


_bodies: dict[str, str] = {}

_TEMPLATE = (
    '{"body": "%(body)s", "content-encoding": "utf-8", "content-type": "application/json", "headers": {'
    '"lang": "py", "task": "' + DRAIN_TASK + '", "id": "%(id)s", "shadow": null, "eta": null, "expires": null, '
    '"group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "%(id)s", '
    '"parent_id": null, "argsrepr": "", "kwargsrepr": "{}", "origin": "ledgerq", "ignore_result": true, '
    '"replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}, "properties": {'
    '"correlation_id": "%(id)s", "reply_to": "", "delivery_mode": 2, '
    '"delivery_info": {"exchange": "", "routing_key": %(queue)s}, "priority": 0, "body_encoding": "base64", '
    '"delivery_tag": "%(tag)s"}}'
)
