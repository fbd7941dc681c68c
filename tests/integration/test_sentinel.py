"""Redis by Sentinel: the master dies, a replica takes over, and everybody follows by himself."""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from ledgerq_shared.broker import Broker, Demand, ticket_list
from ledgerq_shared.redis_access import celery_broker, celery_result_backend
from tests.support import http, wait
from tests.support.launcher import fails
from tests.support.ledger_checks import assert_all_ended
from tests.support.ports import free_port
from tests.support.sentinel import PASSWORD, SENTINEL_PASSWORD, WatchedRedis
from tests.support.servers import token_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.stack import Running, Stack

TASKS = """
import os
from celery import shared_task
from clients.celery.base_tasks import DatabaseAwareTask

@shared_task(bind=True, base=DatabaseAwareTask)
def note(self, number):
    file = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"%d\\n" % number)
    os.close(file)
    return number
"""


@pytest.fixture
def watched(run_folder: Path, workspace: Path) -> Iterator[WatchedRedis]:
    with WatchedRedis(workspace, token=token_of(run_folder)) as servers:
        yield servers


def submit(api: Running, number: int) -> str:
    """Accepted at once, whatever Redis does."""
    answer = http.request(
        "POST", f"{api.url}/tasks/submit", {"task_type": "noting.note", "task_parameters": {"number": number}}
    )
    assert answer.status == 202, answer.body
    return str(answer.json()["task_id"])


def broker_status(api: Running) -> str:
    return str(http.request("GET", f"{api.url}/health").json()["checks"]["broker"]["status"])


@pytest.mark.parametrize("way", ["killed", "demoted"])
def test_when_the_master_changes_everybody_follows_and_every_task_ends_once(
    stack: Stack, watched: WatchedRedis, database: str, way: str
):
    (stack.folder / "noting.py").write_text(TASKS)
    stack.environment |= {"REDIS_URL": watched.url, "LEDGERQ_TASK_MODULES": "noting"}
    stack.register()
    worker, maintenance = stack.worker(), stack.maintenance()
    monitor = stack.monitor()
    flower = stack.flower(LEDGERQ_FLOWER_BASIC_AUTH="somebody:something")
    api = stack.api()
    plain = Celery("plain", set_as_current=False)
    plain.conf.update(celery_broker(watched.url) | celery_result_backend(watched.url))

    def state(task_id: str) -> str:
        return str(http.request("GET", f"{api.url}/tasks/{task_id}/status").json()["status"])

    def has_succeeded(task_id: str) -> bool:
        return state(task_id) == "SUCCESS"

    accepted = [submit(api, number) for number in range(20)]
    wait.until(lambda: all(map(has_succeeded, accepted)), 60, what=stack.logs)
    assert plain.AsyncResult(accepted[-1]).get(timeout=30) == 19
    wait.until(lambda: broker_status(api) == "ok", 30, what=stack.logs)

    before = watched.master
    if way == "killed":
        watched.kill_master()
        watched.kill_first_sentinel()
    else:
        watched.demote_master()

    def is_elected() -> bool:
        accepted.append(submit(api, len(accepted)))
        return watched.master != before

    wait.until(is_elected, 90, interval=0.2, what="a new master")
    wait.until(lambda: all(map(has_succeeded, accepted)), 60, what=stack.logs)

    # Everybody is on the new master; tickets and results go through it.
    last = submit(api, len(accepted))
    accepted.append(last)
    assert plain.AsyncResult(last).get(timeout=60) == len(accepted) - 1
    wait.until(lambda: broker_status(api) == "ok", 60, what=stack.logs)
    wait.until(lambda: "ledgerq_redis_up 1.0" in metrics(monitor), 60, what=lambda: metrics(monitor))
    assert http.request("GET", f"{monitor.url}/readyz").status == 200

    def is_followed() -> bool:
        # A process whose connection broke while it was idle notices it on its next use.
        accepted.append(submit(api, len(accepted)))
        with watched.client() as client:
            return {"ledgerq-api", "ledgerq-agent"} <= {one["name"] for one in client.client_list()}

    wait.until(is_followed, 60, interval=0.5, what="API and agent on the new master")
    wait.until(lambda: all(map(has_succeeded, accepted)), 60, what=stack.logs)
    texts = [seen_by_flower(flower), inspected(plain), stack.logs()]
    plain.close()
    assert not [text for text in texts if PASSWORD in text or SENTINEL_PASSWORD in text]
    assert worker.alive()
    assert maintenance.alive()
    assert "worker.deaf_for_good" not in worker.log()
    assert_all_ended(database, accepted)
    notes = Counter((stack.folder / "notes").read_text().split())
    assert notes == Counter(str(number) for number in range(len(accepted)))


def seen_by_flower(flower: Running) -> str:
    """Flower's page of the broker, and what it has asked the workers, once they have answered."""
    header = {"authorization": "Basic " + base64.b64encode(b"somebody:something").decode()}

    def workers() -> str:
        answer = http.request("GET", f"{flower.url}/api/workers?refresh=1", headers=header)
        return answer.body.decode() if answer.status == 200 and b"ledgerq@" in answer.body else ""

    found = wait.until(workers, 60, interval=0.5, what=flower.log)
    page = http.request("GET", f"{flower.url}/broker", headers=header)
    assert page.status == 200
    return found + page.body.decode()


def inspected(plain: Celery) -> str:
    """What Celery's own remote control tells of a worker."""
    inspect = plain.control.inspect(timeout=10, limit=1)
    text = str([inspect.stats(), inspect.conf()])
    assert "sentinel://" in text
    return text


def metrics(monitor: Running) -> str:
    return str(http.request("GET", f"{monitor.url}/metrics").body.decode())


def test_what_is_wrong_with_the_sentinels_is_one_line(
    bare_stack: Stack, watched: WatchedRedis, database: str, postgres_url: str
):
    def line(url: str) -> str:
        text = fails(bare_stack, code=1, DATABASE_URL=postgres_url, REDIS_URL=url)
        assert "secret" not in text
        return text

    assert "Redis (REDIS_URL): No master found for 'another': all sentinels answer" in line(watched.url_of("another"))
    nowhere = f"sentinel://:server-secret@127.0.0.1:{free_port()}?master_name=ledgerq"
    assert "Redis (REDIS_URL): No master found for 'ledgerq': sentinels do not answer" in line(nowhere)
    unknown = watched.url.replace(f":{PASSWORD}@", ":wrong-secret@")
    assert "Redis (REDIS_URL): " in line(unknown)
    outsider = watched.url.replace(f"sentinel_password={SENTINEL_PASSWORD}", "sentinel_password=wrong-secret")
    assert "Redis (REDIS_URL): " in line(outsider)


def test_without_a_master_submits_are_accepted_and_health_says_degraded(stack: Stack, watched: WatchedRedis):
    (stack.folder / "noting.py").write_text(TASKS)
    stack.environment |= {"REDIS_URL": watched.url_of("another"), "LEDGERQ_TASK_MODULES": "noting"}
    stack.register()
    api, monitor = stack.api(), stack.monitor()
    submit(api, 1)
    assert broker_status(api) == "degraded"
    assert http.request("GET", f"{monitor.url}/health").json()["stores"]["redis"]["error"] == "MasterNotFoundError"
    assert "No master found for 'another'" in api.says("No master found for 'another'")
    assert SENTINEL_PASSWORD not in stack.logs()


def test_a_client_says_who_it_is_and_finds_the_master_past_a_dead_sentinel(watched: WatchedRedis):
    watched.kill_first_sentinel()
    broker = Broker(watched.url, client_name="ledgerq of a test")
    assert broker.ping()
    with watched.client() as client:
        assert "ledgerq-of-a-test" in {one["name"] for one in client.client_list()}
    assert broker.wake(Demand("q", 3, 2))
    assert broker.has_tickets(["q"])
    with watched.client() as client:
        assert client.llen(ticket_list("q")) == 2
    broker.close()
