"""Things that strangers leave in Redis where Celery's consumer reads: they are put away and do not end the process.

kombu takes whatever it finds for a message of its own, and an exception in its loop ends the worker. So each element
that is popped from a list of tickets is checked first, and an element that is not a ticket goes to
``ledgerq.refused:<queue>``, which keeps the latest ones. A broadcast (remote control) that cannot be understood is left
out, and an unacknowledged message that cannot be returned goes to that list, too.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from queue import Empty
from typing import Any

import redis
from kombu.transport.redis import Channel, GlobalKeyPrefixMixin, QoS
from kombu.utils.encoding import bytes_to_str

from ledgerq_shared.broker import TICKETS, is_ticket, queue_of
from ledgerq_shared.process.sampling import SampledLog
from ledgerq_shared.redis_access import describe

#: The beginning of the names of the lists with elements that can be neither a ticket nor a task.
REFUSED = "ledgerq.refused:"
#: How many elements such a list keeps (older ones are dropped), and how many bytes of one (the rest is cut off).
_MOST_KEPT = 1000
_MOST_BYTES = 1024 * 1024

#: By kind (``ticket``, ``message``, ``broadcast``, ``unacknowledged``): how many this process has put away.
refused: Counter[str] = Counter()

_sampled = SampledLog()
_MARK = "is_careful"


def note(kind: str, reason: str, **fields: object) -> None:
    """Count an element that is put away; log a line unless the same kind had one just now."""
    refused[kind] += 1
    _sampled.note("worker.message.refused", kind, error=reason, **fields)


def put_away(pipeline: Any, prefix: str, queue: str, raws: Iterable[bytes]) -> None:
    """Add elements to the queue's list of refused elements."""
    name = f"{prefix}{REFUSED}{queue}"
    for raw in raws:
        pipeline.lpush(name, raw[:_MOST_BYTES])
    pipeline.ltrim(name, 0, _MOST_KEPT - 1)


def be_careful() -> None:
    """From now on, check in this process what comes from Redis before kombu does."""
    if not hasattr(Channel._brpop_read, _MARK):  # noqa: SLF001
        Channel._brpop_read = _careful_pop(Channel._brpop_read)  # type: ignore[method-assign]  # noqa: SLF001
        Channel._receive_one = _careful_receive(Channel._receive_one)  # type: ignore[method-assign]  # noqa: SLF001
        QoS.restore_by_tag = _careful_restore(QoS.restore_by_tag)  # type: ignore[method-assign]
        _leave_ticket_lists_unprefixed(GlobalKeyPrefixMixin)


def _careful_pop(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def pop(self: Any, **options: Any) -> Any:
        client = self.client

        def parse_response(connection: Any, command: str, **more: Any) -> Any:
            answer = type(client).parse_response(client, connection, command, **more)
            if command == "BRPOP" and answer:
                name = bytes_to_str(answer[0]).rsplit(self.sep, 1)[0]  # type: ignore[no-untyped-call]
                if name.startswith(TICKETS) and not is_ticket(answer[1], queue_of(name)):
                    _set_aside(self, "ticket", queue_of(name), answer[1])
                    return None  # as if the list had been empty
            return answer

        client.parse_response = parse_response
        try:
            return original(self, **options)
        finally:
            del client.parse_response

    setattr(pop, _MARK, True)
    return pop


def _leave_ticket_lists_unprefixed(mixin: Any) -> None:
    """Read the lists of tickets without the application's ``global_keyprefix``: the processes that fill them have no
    Celery application and do not know it.
    """
    prefix_args = mixin._prefix_args  # noqa: SLF001

    def prefix(self: Any, arguments: Any) -> list[Any]:
        own = self.global_keyprefix + TICKETS
        return [
            one.removeprefix(self.global_keyprefix) if isinstance(one, str) and one.startswith(own) else one
            for one in prefix_args(self, arguments)
        ]

    def parse_response(self: Any, connection: Any, command: str, **options: Any) -> Any:
        answer = super(mixin, self).parse_response(connection, command, **options)
        if command == "BRPOP" and answer:
            name = bytes_to_str(answer[0])  # type: ignore[no-untyped-call]
            return (name if name.startswith(TICKETS) else name.removeprefix(self.global_keyprefix)).encode(), answer[1]
        return answer

    mixin._prefix_args, mixin.parse_response = prefix, parse_response  # noqa: SLF001


def _careful_receive(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def receive(self: Any, subscriber: Any) -> Any:
        heard: list[Any] = []

        def parse_response(*arguments: Any, **more: Any) -> Any:
            heard.append(type(subscriber).parse_response(subscriber, *arguments, **more))
            return heard[-1]

        subscriber.parse_response = parse_response
        try:
            return original(self, subscriber)
        except Exception as error:
            if not heard or isinstance(error, (redis.RedisError, OSError, Empty)):
                raise
            note("broadcast", f"{type(error).__name__}: {error}"[:200])
            raise Empty from None
        finally:
            del subscriber.parse_response

    return receive


def _careful_restore(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def restore(self: Any, tag: Any, client: Any = None, leftmost: bool = False) -> Any:
        try:
            return original(self, tag, client, leftmost)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            with self.channel.conn_or_acquire(client) as own:
                raw = own.hget(self.unacked_key, tag)
                own.hdel(self.unacked_key, tag)
                own.zrem(self.unacked_index_key, tag)
            _set_aside(self.channel, "unacknowledged", "unacked", raw or b"", why=type(error).__name__)

    return restore


def _set_aside(channel: Any, kind: str, queue: str, raw: bytes, why: str = "it is no ticket") -> None:
    note(kind, why, queue=queue)
    try:
        with channel.conn_or_acquire() as client:
            # Kombu's client puts the application's prefix before the keys of some commands only; here it is put before
            # all keys.
            plain = redis.Redis(connection_pool=client.connection_pool)
            pipeline = plain.pipeline()
            put_away(pipeline, getattr(channel, "global_keyprefix", "") or "", queue, [raw])
            pipeline.execute()
    except Exception as error:  # then it is lost, which does no harm
        _sampled.note("worker.message.not_kept", "not_kept", error=describe(error))
