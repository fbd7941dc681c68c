"""A ticket is built by hand because kombu needs 400 µs for it; it must be what Celery itself would send."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import structlog
from celery import Celery
from structlog.testing import capture_logs

from ledgerq_shared.broker import DRAIN_TASK, Broker, Demand, queue_of, ticket, ticket_list
from tests.support import wait

#: What differs from message to message, or says who sent it.
_OWN = {
    "headers": {"id", "root_id", "origin", "argsrepr"},
    "properties": {"correlation_id", "delivery_tag", "reply_to"},
}


@pytest.fixture
def client(redis_database: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_database) as client:
        yield client


@pytest.fixture
def broker(redis_database: str) -> Iterator[Broker]:
    made = Broker(redis_database, client_name="contract test")
    yield made
    made.close()


def celerys_own(redis_url: str, client: redis.Redis, queue: str, destination: str) -> dict[str, Any]:
    with Celery("contract", broker=redis_url, set_as_current=False) as app:
        app.send_task(DRAIN_TASK, (queue,), queue=destination, ignore_result=True)
    return dict(json.loads(client.rpop(destination) or b"{}"))


@pytest.mark.parametrize("queue", ["default", "Queue with blanks, 'quotes' and \"more\"", "队列", "a/b:c%s"])
@pytest.mark.parametrize("is_for_old_nodes", [False, True])
def test_a_ticket_is_what_celery_itself_sends(
    redis_database: str, client: redis.Redis, queue: str, is_for_old_nodes: bool
):
    destination = queue if is_for_old_nodes else ticket_list(queue)
    original = celerys_own(redis_database, client, queue, destination)
    ours = json.loads(ticket(queue, queue) if is_for_old_nodes else ticket(queue))
    assert original.keys() == ours.keys()
    for part, own in _OWN.items():
        assert original[part].keys() == ours[part].keys()
        assert {k: v for k, v in original[part].items() if k not in own} == {
            k: v for k, v in ours[part].items() if k not in own
        }
    assert json.loads(base64.b64decode(ours["body"])) == json.loads(base64.b64decode(original["body"]))
    assert (original["content-type"], original["content-encoding"]) == (ours["content-type"], ours["content-encoding"])


def test_every_ticket_has_an_id_of_its_own():
    one, other = json.loads(ticket("q")), json.loads(ticket("q"))
    assert one["headers"]["id"] == one["headers"]["root_id"] == one["properties"]["correlation_id"]
    assert one["headers"]["id"] != other["headers"]["id"]
    assert one["properties"]["delivery_tag"] != other["properties"]["delivery_tag"]


def test_a_broker_never_holds_more_tickets_than_there_are_slots(broker: Broker, client: redis.Redis):
    def tickets(queue: str) -> int:
        return int(client.llen(ticket_list(queue)))  # type: ignore[arg-type]

    assert broker.wake(Demand("q", 1, 4))
    assert tickets("q") == 1
    assert broker.wake(Demand("q", 1_000_000, 4))
    assert tickets("q") == 4
    assert broker.wake(Demand("q", 1_000_000, 4))
    assert tickets("q") == 4
    assert broker.wake(Demand("q", 1, 2)), "slots are gone: their tickets go too"
    assert tickets("q") == 2
    assert broker.wake(Demand("idle", 0, 4))
    assert tickets("idle") == 0
    assert broker.wake(Demand("nobody", 5, 0)), "with no worker yet, one ticket waits for the first"
    assert tickets("nobody") == 1


def test_nodes_of_older_releases_get_their_tickets_where_they_look_beside_other_peoples_messages(
    broker: Broker, client: redis.Redis
):
    client.lpush("q", "a message")
    assert broker.wake(Demand("q", 9, 2, 3), Demand("old", 9, 0, 2))
    assert [client.llen(name) for name in (ticket_list("q"), "q", ticket_list("old"), "old")] == [2, 3, 0, 2]
    assert client.rpop("q") == b"a message"
    assert broker.wake(Demand("q", 9, 2, 1)), "what is there may be other people's: it is not cut off"
    assert client.llen("q") == 2


@pytest.mark.parametrize(
    "name", ["_kombu.binding.default", "unacked", "unacked_index", "celery-task-meta-1", "somebody's hash"]
)
def test_a_queue_that_is_called_as_another_kind_of_key_has_its_tickets_and_holds_up_no_other(
    broker: Broker, client: redis.Redis, name: str
):
    client.hset(name, "field", "value")
    structlog.reset_defaults()  # other tests of this process may have asked for silence
    with capture_logs() as logs:
        assert broker.wake(Demand(name, 5, 2, 2), Demand("default", 5, 2, 2))
    assert [client.llen(ticket_list(queue)) for queue in (name, "default")] == [2, 2]
    assert client.llen("default") == 2
    assert client.hgetall(name) == {b"field": b"value"}
    assert [entry["name"] for entry in logs if entry["event"] == "broker.refused"] == [name]
    assert broker.has_tickets([name])
    assert broker.has_tickets(["no such queue", "default"])


def test_each_queue_has_a_list_of_tickets_of_its_own_also_beside_kombus_mark_of_priorities():
    names = ["q", "q\x06\x163", "q%06%163", "q%", "q%25"]
    lists = [ticket_list(name) for name in names]
    assert len(set(lists)) == len(names)
    assert not any("\x06" in name or "\x16" in name for name in lists)


def test_a_thousand_queues_are_woken_in_few_round_trips(broker: Broker, client: redis.Redis):
    before = client.info("stats")["total_reads_processed"]  # type: ignore[index]
    assert broker.wake(*(Demand(f"q{number}", 1, 1) for number in range(1000)))
    assert client.info("stats")["total_reads_processed"] - before < 500  # type: ignore[index]
    assert all(client.llen(ticket_list(f"q{number}")) == 1 for number in range(0, 1000, 99))


def test_a_broker_shows_which_process_it_belongs_to(redis_database: str, client: redis.Redis):
    broker = Broker(redis_database, client_name="ledgerq-test of names")
    assert broker.ping()
    assert "ledgerq-test-of-names" in {connection["name"] for connection in client.client_list()}
    broker.close()


def test_a_broker_without_redis_says_so_and_does_not_raise():
    broker = Broker("redis://127.0.0.1:1/0", client_name="test", timeout=0.5)
    assert broker.wake(Demand("q", 1, 1)) is False
    assert broker.ping() is False
    broker.close()


def test_after_a_failure_redis_is_left_alone_for_a_while():
    """Else every submit would wait for the timeout of a Redis that is away."""
    met = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    met.append(1)

        threading.Thread(target=hang_up, daemon=True).start()
        broker = Broker(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", client_name="test", timeout=5.0)
        assert broker.wake(Demand("q", 1, 1)) is False
        before = len(met)
        assert before
        assert broker.wake(Demand("q", 1, 1)) is False
        assert broker.has_tickets(["q"]) is False
        assert len(met) == before, "nobody was asked"
        wait.until(lambda: broker.wake(Demand("q", 1, 1)) or len(met) > before, what="Redis is asked again")
        broker.close()


@pytest.mark.parametrize("queue", ["default", "队列", "a%06b", "a\x06b\x16%25", "ledgerq.tickets:x", ""])
def test_the_queue_of_a_list_of_tickets_is_known_by_its_name(queue: str):
    assert queue_of(ticket_list(queue)) == queue
