"""`DATABASE_URL` names several servers: every process finds the primary, before and after a failover."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from launcher.checks import postgres_answers
from ledgerq_monitor.stores import ask_postgres
from ledgerq_shared.connecting import connect
from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.sql import Statement
from tests.support import databases, http, wait
from tests.support.ledger_checks import assert_all_ended
from tests.support.replicated import Replicated
from tests.support.urls import one_url, port_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.stack import Stack

#: In a transaction that may write, which a standby begins for nobody.
WHERE = Statement("SELECT inet_server_port()", {})
TASKS = """
from celery import shared_task
from clients.celery.base_tasks import DatabaseAwareTask

@shared_task(bind=True, base=DatabaseAwareTask)
def double(self, number):
    return number * 2
"""


@pytest.fixture
def pair(workspace: Path) -> Iterator[Replicated]:
    with Replicated(workspace) as servers:
        yield servers


@pytest.fixture
def frozen() -> Iterator[socket.socket]:
    """Somebody who is connected to and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def test_the_primary_is_found_behind_a_standby_and_left_for_the_next_one(pair: Replicated):
    [standby] = pair.standbys
    for query in ("", "target_session_attrs=any", "target_session_attrs=read-write"):
        url = one_url(standby.url, pair.primary.url, query=query)
        assert Database(url, application_name="test").fetch(WHERE, writes=True) == [(port_of(pair.primary.url),)]
    database = Database(one_url(standby.url, pair.primary.url, query=query), application_name="test")
    assert database.fetch(WHERE, writes=True) == [(port_of(pair.primary.url),)]
    with database.transaction() as cursor:
        cursor.execute("SELECT inet_server_port()")
        assert cursor.fetchone() == (port_of(pair.primary.url),)
    pair.all_have_it()
    pair.primary.kill()
    with pytest.raises(LedgerUnavailable):
        database.fetch(WHERE, writes=True)
    with pytest.raises(LedgerUnavailable, match=r"connection to server .*; connection to server"):
        database.fetch(WHERE, writes=True)
    standby.promote()
    assert database.fetch(WHERE, writes=True) == [(port_of(standby.url),)]
    database.close()


def test_a_host_that_says_nothing_is_left_for_the_next_one_which_is_asked_first_from_then_on(
    frozen: socket.socket, postgres_url: str
):
    url = one_url(f"127.0.0.1:{frozen.getsockname()[1]}", postgres_url)
    began = time.monotonic()
    connect(url, application_name="test", connect_timeout=30).close()
    assert time.monotonic() - began < 15, "it was waited for as long as if it were the only one"
    frozen.accept()[0].close()
    connect(url, application_name="test", connect_timeout=30).close()
    with pytest.raises(BlockingIOError):
        frozen.accept()


def test_whoever_connects_in_a_way_of_his_own_takes_several_hosts_too(pair: Replicated):
    url = one_url(pair.standbys[0].url, pair.primary.url)
    postgres_answers(url)
    assert ask_postgres(url).well
    environment = {"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0", "PATH": ""}
    for command in ("upgrade", "check", "wait"):
        subprocess.run([sys.executable, "-m", "ledgerq_shared.migrate", command], env=environment, check=True)
    keys = subprocess.run(
        [sys.executable, "-m", "ledgerq_api.cli", "keys", "list"], env=environment, check=True, capture_output=True
    )
    assert b"Traceback" not in keys.stderr


def test_all_services_follow_the_primary_and_what_was_accepted_ends(stack: Stack, workspace: Path, redis_database: str):
    (stack.folder / "doubling.py").write_text(TASKS)
    with Replicated(workspace) as pair:
        [standby] = pair.standbys
        url = one_url(standby.url, pair.primary.url, query="target_session_attrs=any")
        stack.environment |= {"DATABASE_URL": url, "REDIS_URL": redis_database, "LEDGERQ_TASK_MODULES": "doubling"}
        stack.register()
        stack.worker(LEDGERQ_WORKER_CONCURRENCY="1")
        stack.maintenance()
        monitor, flower, api = stack.monitor(), stack.flower(), stack.api()
        accepted: list[str] = []

        def submit() -> bool:
            body = {"task_type": "doubling.double", "task_parameters": {"number": 21}}
            answer = http.request("POST", f"{api.url}/tasks/submit", body)
            if answer.status == 202:
                accepted.append(answer.json()["task_id"])
            return answer.status == 202

        def has_succeeded(task_id: str) -> bool:
            answer = http.request("GET", f"{api.url}/tasks/{task_id}/status")
            return answer.status == 200 and json.loads(answer.body)["status"] == "SUCCESS"

        assert submit()
        wait.until(lambda: has_succeeded(accepted[0]), 60, what=stack.logs)
        pair.all_have_it()
        pair.primary.kill()
        assert http.request("POST", f"{api.url}/tasks/submit", {"task_type": "doubling.double"}).status in (422, 503)
        standby.promote()
        wait.until(submit, 30, what=stack.logs)
        wait.until(lambda: all(map(has_succeeded, accepted)), 60, what=stack.logs)
        names = "SELECT DISTINCT split_part(application_name, ' ', 1) FROM pg_stat_activity"
        everybody = {("ledgerq-api",), ("ledgerq-maintenance",), ("ledgerq-lease",)}
        wait.until(
            lambda: everybody <= set(databases.rows(standby.url, names)),
            60,
            what=lambda: str(databases.rows(standby.url, names)),
        )
        assert http.answers(f"{monitor.url}/readyz")
        assert http.answers(f"{flower.url}/healthcheck")
        stack.close()
        assert_all_ended(standby.url, accepted)
