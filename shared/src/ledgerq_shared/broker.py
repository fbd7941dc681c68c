"""Tickets: tiny Celery messages that say "this queue has work".

A ticket carries no task, so a lost, doubled or late ticket does no harm; the dispatcher's sweep of the ledger replaces
lost tickets within a second. However long the backlog is, there are never more tickets in Redis than worker slots.

The tickets of a queue are in a list of their own, whose name nobody else uses. The list with the queue's own name
belongs to plain Celery: it holds other applications' messages, their data, or nothing. Tickets go there only for nodes
of releases before ticket lists.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from ledgerq_shared import redis_access
from ledgerq_shared.faults import Fault
from ledgerq_shared.redis_faults import fault_of

#: Name of the Celery task that a ticket calls.
DRAIN_TASK = "ledgerq.drain"
#: How the names of all lists of tickets begin.
TICKETS = "ledgerq.tickets:"

#: Seconds for which Redis is left alone after a failure: the sweep will send the tickets that are missing.
_QUIET_AFTER_FAILURE = 1.0
#: Queues that are looked at in one round trip.
_AT_ONCE = 500
#: Stands for the length of a list that cannot be read: more tickets than any queue wants.
_UNKNOWN = 2**31
#: How many names of refused lists are remembered.
_MOST_REFUSED = 1000

log = structlog.get_logger()


def ticket_list(queue: str) -> str:
    """The list in Redis that holds the tickets of ``queue``: a name of its own for each queue, and nobody else's."""
    # Kombu would read these two characters as its mark before a priority.
    return TICKETS + queue.replace("%", "%25").replace("\x06", "%06").replace("\x16", "%16")


def queue_of(name: str) -> str:
    """The queue whose tickets are in the list ``name``; any other name is returned as it is."""
    if not name.startswith(TICKETS):
        return name
    return name.removeprefix(TICKETS).replace("%06", "\x06").replace("%16", "\x16").replace("%25", "%")


class Demand(NamedTuple):
    """A queue that has work."""

    queue: str
    #: How many tasks became ready.
    ready: int
    #: How many worker slots serve the queue; with none, one ticket waits for the first worker.
    slots: int
    #: How many more slots serve it on nodes of releases before ticket lists.
    old_slots: int = 0


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
        #: Lists for which Redis has refused a command.
        self._refused: set[str] = set()

    def wake(self, *demands: Demand) -> bool:
        """Make sure that each queue has up to ``min(ready, slots)`` tickets, and no queue more than ``slots``.

        An error about one queue's list affects only that queue.

        Returns:
            False if Redis is away.
        """
        wanted = [demand for demand in demands if demand.ready > 0]
        batches = [wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE)]
        with self._lock:
            return all(self._try(self._wake, batch) is not None for batch in batches)

    def has_tickets(self, queues: Sequence[str]) -> bool:
        """Whether a ticket for one of ``queues`` waits in the broker; false if Redis is away."""
        with self._lock:
            lengths = self._try(self._lengths, [ticket_list(queue) for queue in queues])
        return any(lengths or ())

    def ping(self) -> bool:
        """Whether Redis answers."""
        with self._lock:
            return bool(self._try(lambda: self._connected().ping(), even_if_quiet=True))

    def close(self) -> None:
        """Drop the connection."""
        with self._lock:
            self._drop()

    def _wake(self, demands: Sequence[Demand]) -> bool:
        own = self._lengths([ticket_list(demand.queue) for demand in demands])
        pushes = self._connected().pipeline(transaction=False)
        queues: list[str] = []
        for demand, length in zip(demands, own, strict=True):
            most = max(demand.slots, 0 if demand.old_slots else 1)
            missing = min(demand.ready, most - length)
            name = ticket_list(demand.queue)
            if length == _UNKNOWN:
                continue
            if missing > 0:
                pushes.lpush(name, *(ticket(demand.queue) for _ in range(missing)))
                log.debug("broker.tickets", queue=demand.queue, tickets=missing)
                queues.append(demand.queue)
            if missing > 0 or length > most:  # another process may have pushed meanwhile; slots may be gone
                pushes.ltrim(name, 0, most - 1)
                queues.append(demand.queue)
        old = [demand for demand in demands if demand.old_slots > 0]
        for demand, length in zip(old, self._lengths([demand.queue for demand in old]) if old else (), strict=True):
            if (missing := min(demand.ready, demand.old_slots - length)) > 0:
                # Not trimmed: plain Celery's messages are in the same list.
                pushes.lpush(demand.queue, *(ticket(demand.queue, demand.queue) for _ in range(missing)))
                queues.append(demand.queue)
        if queues:
            self._check(pushes.execute(raise_on_error=False), queues)
            redis_access.note_success(writes=True)
        return True

    def _lengths(self, names: Sequence[str]) -> list[int]:
        """How many elements these lists have; `_UNKNOWN` for a list that cannot be read."""
        pipeline = self._connected().pipeline(transaction=False)
        for name in names:
            pipeline.llen(name)
        answers = pipeline.execute(raise_on_error=False)
        self._check(answers, names)
        return [_UNKNOWN if isinstance(answer, Exception) else answer for answer in answers]

    def _check(self, answers: Sequence[Any], names: Sequence[str]) -> None:
        """Note errors that concern one list; raise an error that concerns all of them."""
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Exception):
                if fault_of(answer) in (Fault.REPEAT, Fault.RECONNECT):
                    raise answer
                if name not in self._refused and len(self._refused) < _MOST_REFUSED:
                    self._refused.add(name)  # logged once: the sweep runs twice a second
                    log.warning("broker.refused", name=name, error=redis_access.describe(answer))

    def _try(self, work: Any, *arguments: Any, even_if_quiet: bool = False) -> Any:
        """What ``work`` returns; None while Redis is away or refuses everything."""
        if time.monotonic() < self._quiet_until and not even_if_quiet:
            return None
        try:
            answer = work(*arguments)
        except Exception as error:  # whatever the transport raises: Redis is away or misbehaves
            if not redis_access.note_failure(error):
                log.warning("broker.unavailable", error=redis_access.describe(error))
            self._quiet_until = time.monotonic() + _QUIET_AFTER_FAILURE
            if fault_of(error) is not Fault.REPEAT:
                self._drop()
            return None
        redis_access.note_success(writes=False)
        return answer

    def _connected(self) -> Any:
        if self._client is None:
            self._connection = redis_access.connection(self._url, client_name=self._client_name, timeout=self._timeout)
            self._client = self._connection.default_channel.client
        return self._client

    def _drop(self) -> None:
        if self._client is not None:
            self._client = None
            try:
                self._connection.release()
            except Exception as error:  # it is broken anyway
                log.debug("broker.release_failed", error=str(error))


def ticket(queue: str, destination: str | None = None) -> str:
    """A ticket for ``queue`` in the form of a message of kombu's Redis transport and Celery's protocol 2.

    It is built by hand because kombu needs 400 µs for it. A contract test compares it with what Celery itself sends.

    Args:
        destination: the list that it is pushed to, to which Celery also returns it; by default the queue's ticket list.
    """
    destination = ticket_list(queue) if destination is None else destination
    return _TEMPLATE % {
        "id": uuid.uuid4(), "tag": uuid.uuid4(), "destination": json.dumps(destination), "body": _body(queue),
    }  # fmt: skip


def is_ticket(raw: bytes, queue: str) -> bool:
    """Whether an element of the queue's list of tickets is a ticket, perhaps one that Celery returned, and nothing
    else.

    If you change what :func:`ticket` makes, let both forms pass: nodes of both releases run side by side.
    """
    try:
        found = json.loads(raw)
        found["headers"].pop("redelivered", None)
        found["properties"]["delivery_info"].pop("redelivered", None)
        wanted = json.loads(ticket(queue))
        own_id, tag = found["headers"]["id"], found["properties"]["delivery_tag"]
        if not isinstance(own_id, str) or not isinstance(tag, str):
            return False
        wanted["headers"] |= {"id": own_id, "root_id": own_id}
        wanted["properties"] |= {"correlation_id": own_id, "delivery_tag": tag}
        return bool(found == wanted)
    except Exception:  # not ours
        return False


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
    '"delivery_info": {"exchange": "", "routing_key": %(destination)s}, "priority": 0, "body_encoding": "base64", '
    '"delivery_tag": "%(tag)s"}}'
)
