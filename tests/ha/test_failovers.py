"""Three servers with Patroni; the leader's host dies, hands over, restarts, freezes, while tasks are submitted and done."""

from __future__ import annotations

import collections
import http.client
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support import databases, haproxy, wait
from tests.support import http as calls
from tests.support.ledger_checks import assert_all_ended
from tests.support.patroni import TTL, Cluster, Node, programs
from tests.support.servers import token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.stack import Stack

ROUNDS = int(os.environ.get("HA_ROUNDS", "3"))
TASKS = """
from celery import shared_task

@shared_task
def quick(number):
    return number
"""


@pytest.fixture
def cluster(run_folder: Path, workspace: Path) -> Iterator[Cluster]:
    found = programs()
    if isinstance(found, str):
        pytest.skip(f"{found}: run `make test-ha`")
    with Cluster(workspace, found, token=token_of(run_folder)) as servers:
        yield servers


class Clients:
    """Submit one task after the other, each until it is accepted, as a careful client does: under one Idempotency-Key."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.accepted: set[str] = set()
        self._accepted_at = time.monotonic()
        #: What the last refusals said, for whoever looks for their reason.
        self.refusals: collections.deque[str] = collections.deque(maxlen=20)
        #: The longest time in which nothing was accepted, in seconds.
        self.longest = 0.0
        self._threads = [threading.Thread(target=self._submit) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def begin_anew(self) -> None:
        """Forget the longest time so far."""
        with self._lock:
            self._accepted_at, self.longest = time.monotonic(), 0.0

    def end(self) -> None:
        """Once what each has begun is accepted."""
        self._ended.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "\n".join(self.refusals)

    def has_accepted_since(self, count: int) -> bool:
        return len(self.accepted) > count

    def _submit(self) -> None:
        while not self._ended.is_set():
            key, number = uuid.uuid4().hex, len(self.accepted)
            while not self._is_accepted(key, number):
                self._ended.wait(0.1)

    def _is_accepted(self, key: str, number: int) -> bool:
        body = {"task_type": "failing_over.quick", "task_parameters": {"number": number}}
        try:
            answer = calls.request(
                "POST", f"{self._url}/tasks/submit", body, headers={"Idempotency-Key": key}, timeout=60
            )
        except (OSError, http.client.HTTPException) as error:
            self.refusals.append(repr(error))
            return False
        if answer.status == 202:
            with self._lock:
                now = time.monotonic()
                self.longest = max(self.longest, now - self._accepted_at)
                self._accepted_at = now
                self.accepted.add(answer.json()["task_id"])
        else:
            self.refusals.append(f"{time.monotonic():.1f} {key} {answer.status} {answer.body!r}")
        return answer.status == 202


def kill(cluster: Cluster) -> float:
    leader = cluster.settle()
    leader.kill()
    took = until_another_leads(cluster, leader)
    leader.start()
    return took


def switch_over(cluster: Cluster) -> float:
    leader = cluster.settle()
    leader.ask("switchover", {"leader": leader.name})
    return until_another_leads(cluster, leader)


def restart(cluster: Cluster) -> float:
    begun = time.monotonic()
    cluster.settle().ask("restart", {})
    return time.monotonic() - begun


def freeze(cluster: Cluster) -> float:
    leader = cluster.settle()
    leader.freeze()
    try:
        return until_another_leads(cluster, leader)
    finally:
        leader.thaw()


def until_another_leads(cluster: Cluster, leader: Node) -> float:
    """After how many seconds, with a standby, without which commits wait."""
    begun = time.monotonic()
    wait.until(lambda: cluster.taking_writes() not in (None, leader), 120, interval=0.1, what="another leader")
    return time.monotonic() - begun


#: Each returns how many seconds it took Patroni.
FAULTS: tuple[Callable[[Cluster], float], ...] = (kill, switch_over, restart, freeze)


def test_failovers_lose_nothing_double_nothing_and_refuse_for_no_longer_than_it_takes(
    bare_stack: Stack, cluster: Cluster, redis_database: str, capsys: pytest.CaptureFixture[str]
):
    faults = FAULTS * ROUNDS if ROUNDS else FAULTS[:2]
    survive(faults, bare_stack, cluster, cluster.url, redis_database, capsys)


@pytest.mark.skipif(not ROUNDS, reason="part of the long form")
def test_the_same_through_haproxy(
    bare_stack: Stack, cluster: Cluster, redis_database: str, capsys: pytest.CaptureFixture[str]
):
    found = haproxy.program()
    if found is None:
        pytest.skip("no HAProxy")
    with haproxy.HAProxy(cluster, found) as way:
        survive((kill, switch_over, freeze), bare_stack, cluster, way.url, redis_database, capsys)


def survive(
    faults: tuple[Callable[[Cluster], float], ...],
    stack: Stack,
    cluster: Cluster,
    url: str,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One fault after the other under load; then the whole ledger is looked at.

    Args:
        url: the way of all services to the cluster.
    """
    (stack.folder / "failing_over.py").write_text(TASKS)
    databases.migrate(cluster.url)
    doctor = stack.run("-m", "ledgerq_shared.migrate", "doctor", url)
    assert "FAILS" not in doctor, doctor
    stack.environment |= {
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "LEDGERQ_TASK_MODULES": "failing_over",
        "LEDGERQ_REQUIRE_SYNC": "1",
    }
    stack.register()
    stack.worker()
    stack.maintenance()
    clients = Clients(stack.api().url, 4)
    try:
        for fault in faults:
            until_more(clients, stack)
            clients.begin_anew()
            took = fault(cluster)
            cluster.settle()
            until_more(clients, stack)
            with capsys.disabled():
                print(  # noqa: T201
                    f"{fault.__name__:11} refused {clients.longest:5.1f} s (Patroni {took:5.1f} s), "
                    f"{len(clients.accepted)} accepted so far",
                    flush=True,
                )
            # A busy machine may keep Patroni itself longer: that is not ours.
            assert clients.longest <= max(TTL, took) + 5
    finally:
        clients.end()
    open_tasks = "SELECT count(*) FROM task WHERE completed_at IS NULL"
    wait.until(lambda: databases.rows(cluster.url, open_tasks) == [(0,)], 120, interval=0.5, what=stack.logs)
    wait.until(lambda: databases.rows(cluster.url, "SELECT count(*) FROM claim") == [(0,)], 60, interval=0.5)
    assert databases.rows(cluster.url, "SELECT count(*) FROM went_back") == [(0,)]
    stack.close()
    assert_all_ended(cluster.url, clients.accepted)


def until_more(clients: Clients, stack: Stack) -> None:
    """Something is accepted."""
    before = len(clients.accepted)
    wait.until(lambda: clients.has_accepted_since(before), 120, what=stack.logs)
