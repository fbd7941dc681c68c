"""The lists of plain Celery's messages, as kombu's Redis transport makes them: they are read without being consumed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

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
from ledgerq_worker.celery.usual_messages import read_usual

log = structlog.get_logger()

_TURN = "ledgerq.adopting:"
#: How long the other nodes wait, in milliseconds, if a node dies during its turn.
_TURN_MILLISECONDS = 3000

#: One command for a batch: a thousand of them cost the client as much as to read the messages.
_REMOVE = "for _, element in ipairs(ARGV) do redis.call('LREM', KEYS[1], -1, element) end"


class PlainMessage:
    """An element of a list.

    Attributes:
        key: the list that contains it; there is one list for each priority step.
        raw: the element, unchanged.
        properties: the message's properties; empty until it is read.
        delivery: the tag that kombu has given to this sending of it; None: it has none, or was not read.
    """

    __slots__ = ("delivery", "key", "properties", "raw")

    def __init__(self, key: str, raw: bytes) -> None:
        self.key = key
        self.raw = raw
        self.properties: dict[str, Any] = {}
        self.delivery: str | None = None


class Content(NamedTuple):
    """A message as name, headers and body of protocol 2."""

    name: str
    headers: dict[str, Any]
    body: Any
    #: The arguments, if they are texts already; then the body has none.
    arguments: tuple[str | None, str] | None = None


class Glimpse(NamedTuple):
    """What can be known of a message that is no task."""

    #: None: it names none that the ledger could hold.
    name: str | None = None
    celery_id: str | None = None
    headers: Mapping[str, Any] = MappingProxyType({})
    #: Its callbacks, errbacks, chain and chord, if its body can be read.
    embed: Mapping[str, Any] = MappingProxyType({})
    #: As :attr:`PlainMessage.delivery`.
    delivery: str | None = None
    #: As kombu's message, for signals; None: it is none.
    message: Any = None


#: The longest name or id of a message that cannot be read, in characters.
_LONGEST_NAME = 255


def _text(value: object) -> str | None:
    """A name or an id, if the ledger can hold it."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable() else None


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
        found: dict[str, list[bytes]] = {}
        for message in (*messages, *refused):
            found.setdefault(message.key, []).append(message.raw)
        for key, raws in found.items():
            pipeline.eval(_REMOVE, 1, key, *raws)
        pipeline.execute()

    def read(self, message: PlainMessage) -> Content:
        """What a message says, whichever protocol it has.

        Raises:
            Exception: it is not a task's message, for one of many reasons.
        """
        usual = read_usual(message.raw)
        if usual is not None:
            message.properties = {"priority": usual.priority}
            message.delivery = _text(usual.delivery_tag)
            return Content(usual.headers["task"], usual.headers, ((), {}, usual.embed), usual.arguments)
        element = loads(message.raw.decode())  # type: ignore[no-untyped-call]
        parsed = self._channel.Message(element, channel=self._channel)
        parsed.accept = self._accept
        message.properties = parsed.properties or {}
        message.delivery = _text(parsed.delivery_tag)
        payload, headers = parsed.payload, parsed.headers or {}
        if isinstance(payload, dict):
            name = headers.get("task") or payload["task"]
            body, headers = as_version_2(parsed, payload)
        else:
            name, body = headers["task"], payload
        if not isinstance(name, str) or not name or not headers.get("id"):
            raise ValueError("it has no name of a task, or no id")
        return Content(name, headers, body)

    def glimpse(self, message: PlainMessage) -> Glimpse:
        """What can be known of a message that is no task."""
        found = Glimpse()
        try:
            element = loads(message.raw.decode())  # type: ignore[no-untyped-call]
            headers = dict(element["headers"] or {})
            found = Glimpse(_text(headers.get("task")), _text(headers.get("id")), headers, delivery=message.delivery)
            parsed = self._channel.Message(element, channel=self._channel)
            found = found._replace(message=parsed)
            parsed.accept = self._accept
            payload = parsed.payload
            if isinstance(payload, dict):  # protocol 1
                return found._replace(name=_text(payload.get("task")), celery_id=_text(payload.get("id")))
            return found._replace(embed=dict(payload[2] or {}))
        except Exception:  # raised by anything that a stranger may have put into the list
            return found

    def _keys(self, queue: str) -> list[str]:
        return [self._prefix + self._channel._q_for_pri(queue, step) for step in self._channel.priority_steps]  # noqa: SLF001
