"""A ticket is built by hand because kombu needs 400 µs for it; it must be what Celery itself would send."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from ledgerq_shared.broker import DRAIN_TASK, Broker, ticket

#: What differs from message to message, or says who sent it.
_OWN = {
    "headers": {"id", "root_id", "origin", "argsrepr"},
    "properties": {"correlation_id", "delivery_tag", "reply_to"},
}


@pytest.fixture
def client(redis_database: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_database) as client:
        yield client


def celerys_own(redis_url: str, client: redis.Redis, queue: str) -> dict[str, Any]:
    with Celery("contract", broker=redis_url, set_as_current=False) as app:
        app.send_task(DRAIN_TASK, (queue,), queue=queue, ignore_result=True)
    return dict(json.loads(client.rpop(queue) or b"{}"))


@pytest.mark.parametrize("queue", ["default", "Queue with blanks, 'quotes' and \"more\"", "队列", "a/b:c%s"])
def test_a_ticket_is_what_celery_itself_sends(redis_database: str, client: redis.Redis, queue: str):
    celerys, ours = celerys_own(redis_database, client, queue), json.loads(ticket(queue))
    assert celerys.keys() == ours.keys()
    for part, own in _OWN.items():
        assert celerys[part].keys() == ours[part].keys()
        assert {k: v for k, v in celerys[part].items() if k not in own} == {
            k: v for k, v in ours[part].items() if k not in own
        }
    assert json.loads(base64.b64decode(ours["body"])) == json.loads(base64.b64decode(celerys["body"]))
    assert (celerys["content-type"], celerys["content-encoding"]) == (ours["content-type"], ours["content-encoding"])


def test_every_ticket_has_an_id_of_its_own():
    one, other = json.loads(ticket("q")), json.loads(ticket("q"))
    assert one["headers"]["id"] == one["headers"]["root_id"] == one["properties"]["correlation_id"]
    assert one["headers"]["id"] != other["headers"]["id"]
    assert one["properties"]["delivery_tag"] != other["properties"]["delivery_tag"]


def test_a_broker_never_holds_more_tickets_than_there_are_slots(redis_database: str, client: redis.Redis):
    broker = Broker(redis_database, client_name="contract test")
    assert broker.wake("q", 1, 4)
    assert client.llen("q") == 1
    assert broker.wake("q", 1_000_000, 4)
    assert client.llen("q") == 4
    assert broker.wake("q", 1_000_000, 4)
    assert client.llen("q") == 4
    assert broker.wake("idle", 0, 4)
    assert client.llen("idle") == 0
    assert broker.wake("nobody", 5, 0), "with no worker yet, one ticket waits for the first"
    assert client.llen("nobody") == 1
    broker.close()


def test_a_broker_shows_which_process_it_belongs_to(redis_database: str, client: redis.Redis):
    broker = Broker(redis_database, client_name="ledgerq-test of names")
    assert broker.ping()
    assert "ledgerq-test-of-names" in {connection["name"] for connection in client.client_list()}
    broker.close()


def test_a_broker_without_redis_says_so_and_does_not_raise():
    broker = Broker("redis://127.0.0.1:1/0", client_name="test", timeout=0.5)
    assert broker.wake("q", 1, 1) is False
    assert broker.ping() is False
    broker.close()
