"""The lists of plain Celery's messages, as kombu's Redis transport makes them: they are read without being consumed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import redis
import structlog
from celery import Celery
from kombu.serialization import prepare_accept_content
from kombu.utils.json import loads

from ledgerq_shared.faults import Fault
from ledgerq_shared.redis_access import describe
from ledgerq_shared.redis_faults import fault_of
from ledgerq_worker.celery.seams.protocols import as_version_2
from ledgerq_worker.celery.seams.strangers import put_away

log = structlog.get_logger()

_TURN = "ledgerq.adopting:"
#: How long the other nodes wait, in milliseconds, if a node dies during its turn.
_TURN_MILLISECONDS = 3000


class PlainMessage:
    """An element of a list.

    Attributes:
        key: the list that contains it; there is one list for each priority step.
        raw: the element, unchanged.
        properties: the message's properties; empty until it is read.
    """

    __slots__ = ("key", "properties", "raw")

    def __init__(self, key: str, raw: bytes) -> None:
        self.key = key
        self.raw = raw
        self.properties: dict[str, Any] = {}


class PlainLists:
    """The lists of some queues, over a connection of its own.

    Every method may raise any error of the transport.
    """

    def __init__(self, app: Celery, queues: Sequence[str]) -> None:
        self._app = app
        self._queues = queues
        self._connection: Any = None
        self._accept = prepare_accept_content(app.conf.accept_content)  # type: ignore[no-untyped-call]

    def open(self) -> None:
        """Connect, and declare the queues: producers may rely on a consumer to bind their exchanges."""
        self._connection = self._app.connection_for_read()
        self._channel = self._connection.default_channel
        # Kombu's client puts the application's prefix before the keys of some commands only; here it is put before all
        # keys.
        self._client = redis.Redis(connection_pool=self._channel.client.connection_pool)
        self._prefix = getattr(self._channel, "global_keyprefix", "") or ""
        self._client.ping()
        for queue in self._queues:
            try:
                self._app.amqp.queues[queue].bind(self._channel).declare()
            except Exception as error:
                if fault_of(error) in (Fault.REPEAT, Fault.RECONNECT):
                    raise
                log.warning("worker.adoption.not_declared", queue=queue, error=describe(error))

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it may be broken
                self._connection.release()

    def have_messages(self, queue: str) -> bool:
        """Whether there is a message in one of the queue's lists."""
        pipeline = self._client.pipeline(transaction=False)
        for key in self._keys(queue):
            pipeline.llen(key)
        return any(pipeline.execute())

    def take_turn(self, queue: str, token: str) -> bool:
        """Whether the holder of ``token`` may adopt from this queue for a while."""
        key = f"{self._prefix}{_TURN}{queue}"
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(key, token, nx=True, px=_TURN_MILLISECONDS)
        pipeline.get(key)
        is_free, holder = pipeline.execute()
        if not is_free and holder == token.encode():
            self._client.pexpire(key, _TURN_MILLISECONDS)
        return bool(is_free) or holder == token.encode()

    def wait_for(self, queue: str, seconds: float) -> bool:
        """Wait until there is a message without priority; returns False at once if the server is too old for this.

        It moves an element from the end of the list to the same end, so the element stays where it is.
        """
        [key, *_] = self._keys(queue)
        try:
            self._client.blmove(key, key, seconds, "RIGHT", "RIGHT")  # type: ignore[arg-type]
        except redis.ResponseError as error:
            if fault_of(error) is Fault.MISTAKE:
                return False
            raise
        return True

    def oldest(self, queue: str, count: int) -> list[PlainMessage]:
        """Up to ``count`` messages of each of the queue's lists, the oldest first."""
        keys = self._keys(queue)
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.lrange(key, -count, -1)
        found = zip(keys, pipeline.execute(), strict=True)
        return [PlainMessage(key, raw) for key, raws in found for raw in reversed(raws)]

    def remove(self, queue: str, messages: Sequence[PlainMessage], *, refused: Sequence[PlainMessage]) -> None:
        """Remove messages from their lists, and move those that were ``refused`` into the list of refused messages."""
        pipeline = self._client.pipeline()
        if refused:
            put_away(pipeline, self._prefix, queue, [message.raw for message in refused])
        for message in (*messages, *refused):
            pipeline.lrem(message.key, -1, message.raw)  # type: ignore[arg-type]
        pipeline.execute()

    def read(self, message: PlainMessage) -> tuple[str, dict[str, Any], Any]:
        """A message as name, headers and body of protocol 2, whichever protocol it has.

        Raises:
            Exception: it is not a task's message, for one of many reasons.
        """
        element = loads(message.raw.decode())  # type: ignore[no-untyped-call]
        parsed = self._channel.Message(element, channel=self._channel)
        parsed.accept = self._accept
        message.properties = parsed.properties or {}
        payload, headers = parsed.payload, parsed.headers or {}
        if isinstance(payload, dict):
            name = headers.get("task") or payload["task"]
            body, headers = as_version_2(parsed, payload)
        else:
            name, body = headers["task"], payload
        if not isinstance(name, str) or not name or not headers.get("id"):
            raise ValueError("it has no name of a task, or no id")
        return name, headers, body

    def _keys(self, queue: str) -> list[str]:
        return [self._prefix + self._channel._q_for_pri(queue, step) for step in self._channel.priority_steps]  # noqa: SLF001
