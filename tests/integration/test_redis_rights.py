"""The rights that a Redis user of LedgerQ's needs: everything works with those that Compose gives, and with no more."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from celery import Celery, chord

from tests.integration.worker import tasks_under_test
from tests.support import databases, http, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECRETS = Path(__file__).resolve().parents[2] / "deploy" / "compose" / "write_secrets.py"
RIGHTS: str = runpy.run_path(str(_SECRETS))["REDIS_RIGHTS"]
_CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "ledgerq" / "templates" / "embedded" / "redis.yaml"
_GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "stores.md"


@pytest.fixture
def limited(redis_database: str) -> Iterator[str]:
    """The URL of the test's Redis database for a user with just these rights."""
    name, parts = f"limited-{uuid4().hex[:12]}", urlsplit(redis_database)
    with redis.Redis.from_url(redis_database) as admin:
        admin.execute_command("ACL", "SETUSER", name, "on", ">secret", *RIGHTS.split())
        yield f"redis://{name}:secret@{parts.hostname}:{parts.port}{parts.path}"
        admin.execute_command("ACL", "DELUSER", name)


def denied(redis_database: str, user: str) -> list[str]:
    with redis.Redis.from_url(redis_database, decode_responses=True) as admin:
        return [entry["object"] for entry in admin.acl_log() if entry["username"] == user]


def test_everything_works_with_the_rights_of_composes_redis_and_nothing_more_is_asked_for(
    stack, redis_database, limited, database
):
    user = urlsplit(limited).username
    (stack.folder / "contract_tasks.py").write_text(tasks_under_test.CONTRACT)
    stack.environment |= {"REDIS_URL": limited, "LEDGERQ_TASK_MODULES": "contract_tasks"}
    stack.register()
    api, monitor, flower = stack.api(), stack.monitor(), stack.flower()
    stack.maintenance()
    worker = stack.worker()
    body = {"task_type": "contract_tasks.add", "task_parameters": {"x": 1, "y": 2}}
    task_id = http.request("POST", f"{api.url}/tasks/submit", body).json()["task_id"]
    with Celery("producer", broker=limited, backend=limited, set_as_current=False) as app:
        app.conf.task_default_queue = "default"
        add = app.signature("contract_tasks.add", queue="default")
        both = chord([add.clone((1, 2)), add.clone((3, 4))], app=app)(
            app.signature("contract_tasks.total", queue="default")
        )
        one = app.send_task("contract_tasks.add", (1, 1), queue="default", priority=9)
        assert (one.get(timeout=60), both.get(timeout=60)) == (2, 10)
        one.forget()
        both.forget()
        assert app.control.inspect(timeout=5).stats(), worker.log()
        app.control.revoke("no-such-task", reply=True, timeout=2)
    state = "SELECT state FROM task WHERE id = %s"
    wait.until(lambda: databases.rows(database, state, (task_id,)) == [("SUCCESS",)], 30, what=worker.log)
    assert b"ledgerq_redis_memory" in http.request("GET", f"{monitor.url}/metrics").body
    assert http.request("GET", f"{monitor.url}/readyz").status == http.request("GET", f"{api.url}/readyz").status == 200
    wait.until(lambda: http.request("GET", f"{flower.url}/workers").status == 200, 30)
    wait.until(lambda: http.request("GET", f"{flower.url}/broker").status == 200, 30)
    assert denied(redis_database, user) == []


@pytest.mark.parametrize(
    "command",
    ["CONFIG GET *", "FLUSHALL", "FLUSHDB", "KEYS *", "REPLICAOF 127.0.0.1 1", "MODULE LIST", "ACL LIST",
     "SHUTDOWN NOSAVE", "MONITOR", "CLIENT KILL ID 1", "SAVE", "FUNCTION LIST"],
)  # fmt: skip
def test_what_nobody_needs_is_denied(limited, command):
    with redis.Redis.from_url(limited) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


def test_chart_and_guide_give_the_same_rights():
    assert " ".join(f'"{right}"' for right in RIGHTS.split()) in " ".join(_CHART.read_text("utf-8").split())
    assert f">PASSWORD {RIGHTS}" in _GUIDE.read_text("utf-8")
