"""Whoever reaches Redis may put anything into any list, hash or channel: no process of ours ends for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.broker import is_ticket, ticket, ticket_list
from ledgerq_worker.celery.seams.strangers import REFUSED, put_away
from tests.integration.worker.conftest import Work
from tests.integration.worker.test_adoption import garbage
from tests.support import databases, wait

if TYPE_CHECKING:
    import redis
    from celery import Celery


def tickets_of_strangers() -> list[bytes]:
    """Messages in a list of tickets that are no tickets."""
    good = json.loads(ticket("default"))
    other = json.loads(ticket("elsewhere"))

    def with_headers(**more: object) -> bytes:
        return json.dumps({**good, "headers": {**good["headers"], **more}}).encode()

    return [
        *garbage(),
        json.dumps({**good, "body": other["body"]}).encode(),
        with_headers(task="contract_tasks.add"),
        with_headers(task="celery.backend_cleanup"),
        with_headers(id=None),
        with_headers(eta="soon"),
        with_headers(expires="soon"),
        with_headers(timelimit=["a", "b"]),
        with_headers(retries="many"),
        json.dumps({**good, "properties": {}}).encode(),
        json.dumps({**good, "properties": {**good["properties"], "delivery_info": None}}).encode(),
        json.dumps({**good, "properties": {**good["properties"], "delivery_tag": ["x"]}}).encode(),
        json.dumps({**good, "content-encoding": "rot13"}).encode(),
        json.dumps({**good, "content-type": "application/x-python-serialize"}).encode(),
    ]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_lives_on_beside_garbage_in_everything_that_it_reads(work: Work, client: redis.Redis, pool: str):
    worker = work.start(LEDGERQ_WORKER_POOL=pool)
    assert work.ended(work.submit("contract_tasks.add", x=1, y=1)).result == 2
    strangers = tickets_of_strangers()
    number = client.connection_pool.connection_kwargs["db"]
    for tag, item in enumerate(strangers):
        client.lpush(ticket_list("default"), item)
        client.publish(f"/{number}.celery.pidbox", item)
        client.hset("unacked", f"t{tag}", item)  # type: ignore[arg-type]
    client.hset("unacked", "pair", b"[1, 2]")
    client.zadd("unacked_index", {"pair": 1.0, **{f"t{tag}": 1.0 for tag in range(len(strangers))}})
    wait.until(lambda: client.llen(ticket_list("default")) == 0, 30, what=worker.log)
    # A ticket that Celery returns when it stops is still a ticket.
    client.rpush(ticket_list("default"), ticket("default").replace('"headers": {', '"headers": {"redelivered": true, '))
    for value in range(3):
        assert work.ended(work.submit("contract_tasks.add", x=1, y=value)).result == 1 + value
    assert worker.alive()
    kept = client.lrange(REFUSED + "default", 0, -1)
    assert sorted(kept) == sorted(strangers)  # type: ignore[arg-type, type-var]
    assert "worker.message.refused" in worker.log()
    assert "contract_tasks.add" in json.dumps([item.decode(errors="replace") for item in strangers])
    rows = databases.rows(work.database_url, "SELECT count(*) FROM task")
    assert rows == [(4,)], "what a stranger calls a ticket runs nothing"


def test_what_was_refused_is_kept_up_to_a_bound(client: redis.Redis):
    pipeline = client.pipeline()
    for part in range(3):
        put_away(pipeline, "", "q", [f"{part}-{number}".encode() for number in range(600)])
    put_away(pipeline, "", "q", [b"x" * 3_000_000])
    pipeline.execute()
    assert client.llen(REFUSED + "q") == 1000
    newest = client.lindex(REFUSED + "q", 0)
    assert isinstance(newest, bytes)
    assert len(newest) == 1024 * 1024


def test_a_queues_own_tickets_are_tickets_and_those_of_another_are_not():
    for queue in ("default", "per%cent", "a\x06b", "queue with spaces"):
        assert is_ticket(ticket(queue).encode(), queue)
        assert not is_ticket(ticket(queue + "x").encode(), queue)
    assert not [item for item in tickets_of_strangers() if is_ticket(item, "default")]


def test_celerys_own_tasks_are_set_aside_but_for_those_that_its_canvas_sends(
    work: Work, producer: Celery, client: redis.Redis
):
    worker = work.start()
    for name in ("celery.backend_cleanup", "celery.chord", "celery.group", "ledgerq.anything"):
        producer.send_task(name, queue="default")
    mapped = producer.send_task(
        "celery.starmap",
        kwargs={"task": {"task": "contract_tasks.add", "args": [], "kwargs": {}}, "it": [[1, 2], [3, 4]]},
    )
    state = "SELECT state, result::text FROM task WHERE celery_id = %s"
    done = [("SUCCESS", "[3,7]")]
    wait.until(lambda: databases.rows(work.database_url, state, (str(mapped.id),)) == done, 30, what=worker.log)
    found = databases.rows(work.database_url, "SELECT task_type FROM task WHERE error->>'type' = 'MessageRefused'")
    assert sorted(found) == [("celery.chord",), ("celery.group",), ("ledgerq.anything",)]
    assert client.llen(REFUSED + "default") == 3
    cleanup = "SELECT state FROM task WHERE task_type = 'celery.backend_cleanup'"  # beat sends it each night
    wait.until(lambda: databases.rows(work.database_url, cleanup) == [("SUCCESS",)], 30)
