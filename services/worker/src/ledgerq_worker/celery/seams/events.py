"""The *events*: the publisher learns how many clients have received them."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.events.event import get_exchange
from celery.worker.state import SOFTWARE_INFO
from kombu import Producer  # type: ignore[attr-defined]
from kombu.utils.json import dumps

from ledgerq_shared.process.once import OncePerProcess

#: What Celery's events say about the program that sends them: name, version, system.
SOFTWARE: dict[str, str] = SOFTWARE_INFO


class EventPublisher:
    """Sends Celery's events over a connection of its own, made by the process that uses it.

    Celery's own dispatcher does not tell whether anybody listens.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._receivers = 0
        self._way = OncePerProcess(self._connect)

    def publish(self, events: dict[str, Any] | list[dict[str, Any]], routing_key: str) -> int:
        """Send one event or a batch; returns how many clients have received it.

        Raises:
            Exception: Redis is away, in one of the transport's many ways.
        """
        producer, exchange = self._way()
        self._receivers = 0
        try:
            producer.publish(events, routing_key=routing_key, exchange=exchange, delivery_mode=1)  # type: ignore[no-untyped-call]
        except Exception:
            self._way.forget()  # the next time over a new connection
            raise
        return self._receivers

    def _connect(self) -> tuple[Producer, str]:
        connection = self._app.connection_for_write()
        channel = connection.default_channel
        exchange = get_exchange(connection, name=self._app.conf.event_exchange)

        def put_fanout(exchange: str, message: Any, routing_key: str, **_: Any) -> None:
            payload = dumps(message)  # type: ignore[no-untyped-call]
            with channel.conn_or_acquire() as client:
                for topic in channel._get_publish_topics(exchange, routing_key):  # noqa: SLF001
                    self._receivers += int(client.publish(topic, payload))

        channel._put_fanout = put_fanout  # noqa: SLF001
        exchange(channel).declare()
        serializer = self._app.conf.event_serializer
        return Producer(channel, serializer=serializer, auto_declare=False), exchange.name  # type: ignore[no-untyped-call]
