"""Celery's events of the tasks inside drains, and remote control that respects the ledger."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.worker.conftest import Work
    from tests.support.stack import Running

WHOLE = ["task-received", "task-started", "task-succeeded"]


class Listener:
    """What Flower's receiver hears."""

    def __init__(self, redis_url: str) -> None:
        self.app = Celery("listener", broker=redis_url, backend=redis_url)
        self.events: list[dict[str, Any]] = []
        self._receiver: Any = None
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        with self.app.connection_for_read() as connection:
            self._receiver = self.app.events.Receiver(connection, handlers={"*": self.events.append})
            with contextlib.suppress(OSError, OperationalError):
                self._receiver.capture(limit=None, timeout=None, wakeup=False)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._receiver.should_stop = True
        self._thread.join(10)

    def of(self, task_id: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("uuid") == task_id]

    def kinds(self, task_id: str) -> list[str]:
        return [event["type"] for event in self.of(task_id)]


@pytest.fixture
def listener(redis_database: str) -> Iterator[Listener]:
    listener = Listener(redis_database)
    yield listener
    if listener._receiver is not None:
        listener.stop()


def test_whoever_listens_is_told_of_every_task_and_of_no_drain(work: Work, listener: Listener):
    worker = work.start()
    before = work.submit("echo", value="nobody hears of this")
    work.ended(before)
    listener.start()
    worker.says("worker.events.on")
    done = work.submit("echo", value=[1, "two"])
    failed = work.submit("fails", text="on purpose")
    again = work.submit("retried_by_celery")
    for task_id in (done, failed, again):
        work.ended(task_id)
    wait.until(lambda: listener.kinds(again).count("task-succeeded") == 1, 30, what=lambda: str(listener.events))
    wait.until(lambda: "task-failed" in listener.kinds(failed), 30, what=lambda: str(listener.events))
    wait.until(lambda: listener.kinds(done) == WHOLE, 30, what=lambda: str(listener.events))
    received, _, succeeded = listener.of(done)
    assert (received["name"], received["kwargs"]) == ("contract_tasks.echo", '{"value": [1, "two"]}')
    assert (succeeded["result"], received["retries"]) == ('[1,"two"]', 0)
    assert received["hostname"] == succeeded["hostname"]
    assert received["hostname"].startswith("ledgerq@")
    assert listener.kinds(failed) == ["task-received", "task-started", "task-failed"]
    assert "on purpose" in listener.of(failed)[-1]["exception"]
    assert "Traceback" in listener.of(failed)[-1]["traceback"]
    assert listener.kinds(again) == ["task-received", "task-started", "task-retried", *WHOLE]
    assert [event["retries"] for event in listener.of(again) if event["type"] == "task-received"] == [0, 1]
    assert listener.of(before) == []
    assert "ledgerq.drain" not in str(listener.events)
    listener.stop()
    worker.says("worker.events.off")
    ledger_checks.assert_sound(work.database_url)


class Wire:
    """What of Celery's events goes to this test's Redis database."""

    def __init__(self, redis_url: str) -> None:
        self._client = redis.Redis.from_url(redis_url, socket_timeout=None)  # nothing may be sent for a while
        self._database = int(self._client.connection_pool.connection_kwargs["db"])
        self._is_over = threading.Event()
        self.published: list[str] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        with self._client.monitor() as monitor:
            for seen in monitor.listen():
                command = seen["command"]
                if seen["db"] == self._database and command.startswith("PUBLISH") and "celeryev" in command:
                    self.published.append(command)
                if self._is_over.is_set():
                    return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._client.ping()  # one more command to see
        self._thread.join(10)

    def beats(self) -> int:
        return sum("worker.heartbeat" in one for one in self.published)


def test_while_nobody_listens_no_task_sends_an_event(work: Work, listener: Listener, redis_database: str):
    worker = work.start()
    with Wire(redis_database) as wire:
        wait.until(lambda: wire.beats() > 0, 20, what="the node asks whether anybody listens")
        for task_id in [work.submit("echo", value=number) for number in range(300)]:
            work.ended(task_id)
        seen = wire.beats()
        wait.until(lambda: wire.beats() > seen, 20, what="all of it was seen: the node has asked again")
        assert len(wire.published) == wire.beats()
        # The same wire sees the events of a single task, once somebody listens.
        listener.start()
        worker.says("worker.events.on")
        work.ended(work.submit("echo", value="heard"))
        wait.until(lambda: any("task.multi" in one for one in wire.published), 20, what=lambda: str(wire.published))


def test_a_long_task_is_shown_while_it_runs(work: Work, listener: Listener):
    listener.start()
    worker = work.start()
    worker.says("worker.events.on")
    task_id = work.submit("steps", count=300, pause=0.1)
    wait.until(lambda: listener.kinds(task_id) == WHOLE[:2], 20, what=lambda: str(listener.events))
    inspect = listener.app.control.inspect(timeout=10, limit=1)
    wait.until(lambda: any(event.get("active") == 1 for event in listener.events), 20, what="a heartbeat counts it")
    [(hostname, [running])] = inspect.active().items()
    assert (running["id"], running["name"]) == (task_id, "contract_tasks.steps")
    assert "300" in running["kwargs"]
    assert inspect.reserved() == {hostname: []}
    assert inspect.stats()[hostname]["total"] == {}
    assert not any(name.startswith("ledgerq.") for name in inspect.registered()[hostname])
    assert [queue["name"] for queue in inspect.active_queues()[hostname]] == ["default"]
    listener.app.control.revoke(task_id, terminate=True)
    assert work.ended(task_id).state == "REVOKED"


def test_above_a_rate_only_some_are_shown_and_failures_first(work: Work, listener: Listener):
    listener.start()
    worker = work.start(LEDGERQ_EVENTS_PER_SECOND="4", LEDGERQ_WORKER_CONCURRENCY="1")
    worker.says("worker.events.on")
    ids = [work.submit("echo", queue="other", value=number) for number in range(120)]
    failing = work.submit("fails", queue="other", text="seen")
    work.stack.worker(
        LEDGERQ_TASK_MODULES="custom_tasks,contract_tasks", LEDGERQ_WORKER_QUEUES="other", LEDGERQ_EVENTS_PER_SECOND="4",
        LEDGERQ_WORKER_CONCURRENCY="1",
    )  # fmt: skip
    unfinished = "SELECT FROM task WHERE completed_at IS NULL"
    wait.until(lambda: not databases.rows(work.database_url, unfinished), 60, what="all have ended")
    wait.until(lambda: "task-failed" in listener.kinds(failing), 30, what="the failure is shown")
    shown = {event["uuid"] for event in listener.events if event["type"] == "task-succeeded"}
    assert len(shown & set(ids)) < 60
    assert all(listener.kinds(task_id) in ([], WHOLE) for task_id in ids)
    ledger_checks.assert_sound(work.database_url)


def _until_it_hears(worker: Running, listener: Listener) -> None:
    """Its agent registers it a moment before it listens to remote control."""
    wait.until(lambda: listener.app.control.ping(timeout=1, limit=1), 60, what=worker.log)


def test_a_revoke_by_remote_control_is_a_cancel_in_the_ledger(work: Work, listener: Listener):
    _until_it_hears(work.start(), listener)
    task_id = work.submit("echo", queue="nobody-serves-it", value=1)
    [(_, said)] = listener.app.control.revoke(task_id, reply=True, timeout=10, limit=1)[0].items()
    assert "REVOKED" in said["ok"]
    assert work.row(task_id).state == "REVOKED"
    [(actor, reason)] = databases.rows(
        work.database_url, "SELECT actor, data->>'reason' FROM task_event WHERE kind = 'revoked'"
    )
    assert (actor, reason) == ("celery", "cancelled")
    [(_, again)] = listener.app.control.revoke(task_id, reply=True, timeout=10, limit=1)[0].items()
    assert "already ended" in again["ok"]
    [(_, unknown)] = listener.app.control.revoke("no-such-task", reply=True, timeout=10, limit=1)[0].items()
    assert "no task has the id" in unknown["ok"]
    ledger_checks.assert_sound(work.database_url)


def test_control_that_would_go_around_the_ledger_is_refused_with_a_reason(work: Work, listener: Listener):
    worker = work.start()
    _until_it_hears(worker, listener)
    control = listener.app.control

    def says(command: str, **arguments: Any) -> str:
        [(_, said)] = control.broadcast(command, arguments=arguments, reply=True, timeout=10, limit=1)[0].items()
        return str(said)

    assert "LEDGERQ_WORKER_CONCURRENCY" in says("pool_grow", n=1)
    assert "error" in says("rate_limit", task_name="contract_tasks.echo", rate_limit="1/m")
    assert "error" in says("time_limit", task_name="contract_tasks.echo", hard=1)
    assert work.run("echo", value=1).result == 1
    control.broadcast("shutdown")
    assert worker.wait() == 0
    assert databases.rows(work.database_url, "SELECT ended_why FROM worker") == [("stopped",)]
