"""Messages of plain Celery producers become tasks: in batches, whatever the pool does, and none of them is lost."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery

from ledgerq_shared.broker import DRAIN_TASK, Broker, ticket_list
from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.statements.dispatch import slots_by_queue
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.celery.adopt import Adoption
from ledgerq_worker.celery.seams.strangers import REFUSED
from ledgerq_worker.celery.sending import Submitter
from tests.integration.worker.conftest import Work
from tests.support import databases, ledger_checks, refusals, wait

if TYPE_CHECKING:
    from collections.abc import Iterator


_GATED = """

@shared_task
def wait_for_file(path):
    import pathlib, time
    while not pathlib.Path(path).exists():
        time.sleep(0.05)
"""


class Adopters:
    """Threads that adopt, as in workers, on the test's own stores."""

    def __init__(self, producer: Celery, database: str, redis_url: str) -> None:
        self._app = producer
        self._database = Database(database, application_name="test", size=4)
        self._waker = Waker(lambda: self._database.fetch(slots_by_queue()), Broker(redis_url, client_name="test"))
        self._started: list[Adoption] = []

    def start(self, *queues: str, submitter: type[Submitter] = Submitter) -> None:
        """Begin to adopt, as one more worker."""
        made = submitter(lambda: (self._database, self._waker))
        adoption = Adoption(self._app, made, queues, actor="celery")
        self._started.append(adoption)
        adoption.start()

    def close(self) -> None:
        """End."""
        for adoption in self._started:
            adoption.stop()
        self._waker.close()
        self._database.close()


@pytest.fixture
def adopters(producer: Celery, database: str, redis_database: str) -> Iterator[Adopters]:
    made = Adopters(producer, database, redis_database)
    yield made
    made.close()


def adopted(database: str) -> list[tuple[object, ...]]:
    return databases.rows(database, "SELECT celery_id, queue, parameters::text FROM task ORDER BY id")


def send(producer: Celery, count: int, queue: str = "default", **options: Any) -> list[str]:
    return [
        str(producer.send_task("contract_tasks.add", kwargs={"x": number, "y": 1}, queue=queue, **options).id)
        for number in range(count)
    ]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_messages_are_adopted_while_all_slots_are_busy_and_an_http_task_does_not_stand_behind_them(
    work: Work, producer: Celery, client: redis.Redis, pool: str
):
    with (work.stack.folder / "contract_tasks.py").open("a") as module:
        module.write(_GATED)
    worker = work.start(LEDGERQ_WORKER_CONCURRENCY="1", LEDGERQ_WORKER_POOL=pool)
    blocker = work.submit("contract_tasks.wait_for_file", path=str(work.stack.folder / "go"))
    wait.until(lambda: work.row(blocker).state == "STARTED", 30)
    ids = send(producer, 300)
    wait.until(lambda: client.llen("default") == 0, 30, what=worker.log)
    assert [row[0] for row in adopted(work.database_url) if row[0]] == ids, "in the order in which they were sent"
    urgent = work.submit("contract_tasks.add", x=1, y=1)
    assert work.row(blocker).state == "STARTED"
    (work.stack.folder / "go").touch()
    assert work.ended(urgent).result == 2
    count = "SELECT count(*) FROM task WHERE completed_at IS NULL"
    wait.until(lambda: databases.rows(work.database_url, count) == [(0,)], 60)
    assert worker.alive()
    everything = (str(row[0]) for row in databases.rows(work.database_url, "SELECT id FROM task"))
    ledger_checks.assert_all_ended(work.database_url, everything)


def garbage() -> list[bytes]:
    """What strangers may put into a list."""
    whole = {
        "body": "W1tdLCB7fSwgbnVsbF0=",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "contract_tasks.add", "id": "broken"},
        "properties": {"delivery_info": {}, "delivery_tag": "t", "body_encoding": "base64"},
    }
    headers: list[Any] = [None, {}, {"task": None, "id": "x"}, {"task": ["x"], "id": "x"}, {"task": "x", "id": None}, 5]
    bodies = ["", "!!!", "W10=", "bnVsbA==", "NQ==", "W1tdLCA1LCBudWxsXQ==", None, 7]
    return [
        b"", b"\xff\xfe\x00", b"null", b"[]", b"5", b'"text"', b"{}", b"{" * 5000, b"[" * 100_000,
        *(json.dumps({**whole, "headers": one}).encode() for one in headers),
        *(json.dumps({**whole, "body": one}).encode() for one in bodies),
        *(json.dumps({**whole, "properties": one}).encode() for one in (None, [], {}, {"delivery_tag": 5})),
        json.dumps({**whole, "content-type": "application/x-python-serialize"}).encode(),
        json.dumps({**whole, "headers": {"task": "contract_tasks.add", "id": "nul\0"}}).encode(),
        json.dumps({**whole, "headers": {"task": "nul\0", "id": "x"}}).encode(),
        json.dumps({**whole, "headers": {"task": "contract_tasks.add", "id": "e", "eta": "soon"}}).encode(),
        json.dumps({**whole, "headers": {"task": "contract_tasks.add", "id": "e", "expires": "infinity"}}).encode(),
        json.dumps({**whole, "headers": {"task": "contract_tasks.add", "id": "e", "retries": "many"}}).encode(),
    ]  # fmt: skip


def test_what_is_no_task_is_put_away_as_it_is_and_holds_up_nobody(
    adopters: Adopters, database: str, producer: Celery, client: redis.Redis
):
    [before] = send(producer, 1)
    client.lpush("default", *garbage())
    [after] = send(producer, 1)
    adopters.start("default")
    wait.until(lambda: client.llen("default") == 0, 30, what=lambda: str(adopted(database)))
    sound = databases.rows(database, "SELECT celery_id FROM task WHERE completed_at IS NULL ORDER BY id")
    assert sound == [(before,), (after,)]
    errors = "SELECT DISTINCT state, error->>'type' FROM task WHERE completed_at IS NOT NULL"
    assert databases.rows(database, errors) == [("FAILURE", "MessageRefused")]
    assert sorted(client.lrange(REFUSED + "default", 0, -1)) == sorted(garbage())  # type: ignore[arg-type]


def test_a_worker_lives_on_beside_garbage_in_the_list_of_its_queue(work: Work, producer: Celery, client: redis.Redis):
    worker = work.start()
    client.lpush("default", *garbage())
    [celery_id] = send(producer, 1)
    state = "SELECT state FROM task WHERE celery_id = %s"
    wait.until(lambda: databases.rows(work.database_url, state, (celery_id,)) == [("SUCCESS",)], 30, what=worker.log)
    assert worker.alive()


def test_messages_of_every_priority_are_adopted_and_keep_theirs(
    adopters: Adopters, database: str, producer: Celery, client: redis.Redis
):
    for priority in range(10):
        send(producer, 2, priority=priority)
    adopters.start("default")
    wait.until(lambda: len(adopted(database)) == 20, 30)
    found = databases.rows(database, "SELECT priority, count(*) FROM task GROUP BY priority ORDER BY priority")
    assert found == [(priority, 4 if priority == 5 else 2) for priority in range(1, 10)], "0 is Celery's for: none"
    wait.until(lambda: not client.keys("default*"), 30)


def test_a_queue_that_is_called_as_another_kind_of_key_holds_up_no_other(
    adopters: Adopters, database: str, producer: Celery, client: redis.Redis
):
    client.sadd("a set", "of somebody else's")
    send(producer, 3)
    adopters.start("a set", "unacked", *(f"queue {number}" for number in range(20)), "default")
    wait.until(lambda: len(adopted(database)) == 3, 30)
    send(producer, 2, queue="queue 7")
    wait.until(lambda: len(adopted(database)) == 5, 30)
    assert client.smembers("a set") == {b"of somebody else's"}


def test_tickets_of_processes_from_before_ticket_lists_are_tickets_and_no_tasks(
    adopters: Adopters, database: str, producer: Celery, client: redis.Redis
):
    for _ in range(5):
        producer.send_task(DRAIN_TASK, ("default",), queue="default", ignore_result=True)
    send(producer, 1)
    adopters.start("default")
    wait.until(lambda: client.llen("default") == 0, 30)
    wait.until(lambda: client.llen(ticket_list("default")) == 1, 30, what="as many as without a worker")
    assert len(adopted(database)) == 1
    assert not client.exists(REFUSED + "default")


def test_a_message_is_removed_only_after_the_ledger_has_it(
    adopters: Adopters, database: str, producer: Celery, client: redis.Redis
):
    tried: list[int] = []

    class OfNoLedger(Submitter):
        def submit_all(self, tasks: Any) -> list[BaseException | None]:
            tried.append(len(tasks))
            return [LedgerUnavailable() if len(tried) < 3 else error for error in super().submit_all(tasks)]

    send(producer, 4)
    adopters.start("default", submitter=OfNoLedger)
    wait.until(lambda: len(tried) == 2, 30)
    assert client.llen("default") == 4
    wait.until(lambda: client.llen("default") == 0, 30)
    assert tried == [4, 4, 4]
    assert len(adopted(database)) == 4, "adopting again changes nothing"
    assert not client.exists(REFUSED + "default")


@pytest.mark.parametrize("code", ["42804", "42501"])
def test_a_message_that_alone_is_refused_as_a_mistake_of_ours_stays_and_those_behind_it_are_adopted(
    adopters: Adopters, database: str, producer: Celery, client: redis.Redis, code: str
):
    send(producer, 150)  # more than a batch
    odd = """NEW.parameters::text = '{"x": 0, "y": 1}'"""
    refusals.refuse_rows(database, code, on="task", verb="INSERT", when=odd)
    adopters.start("default")
    wait.until(lambda: client.llen("default") == 1, 60, what=lambda: f"{client.llen('default')} messages")
    assert len(adopted(database)) == 149
    refusals.allow(database)
    wait.until(lambda: client.llen("default") == 0, 60)
    assert len(adopted(database)) == 150
    assert not client.exists(REFUSED + "default")


def test_several_workers_adopt_a_backlog_once(adopters: Adopters, database: str, producer: Celery, client: redis.Redis):
    ids = send(producer, 1)
    [message] = client.lrange("default", 0, -1)  # type: ignore[misc]
    others = [str(uuid.uuid4()) for _ in range(5000)]
    client.lpush("default", *(message.replace(ids[0].encode(), other.encode()) for other in others))
    for _ in range(3):
        adopters.start("default")
    wait.until(lambda: client.llen("default") == 0, 60)
    assert [row[0] for row in adopted(database)] == [*ids, *others]
    assert databases.rows(database, "SELECT count(*) FROM task_event") == [(5001,)]
