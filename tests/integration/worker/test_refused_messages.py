"""A plain Celery message that cannot run is a task that has failed: its sender hears of it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import redis
from celery import Celery, chord, group
from celery.result import AsyncResult

from ledgerq_shared.statements.submit import NewTaskOptions
from ledgerq_worker.celery.seams.strangers import REFUSED
from tests.integration.worker.conftest import Work
from tests.support import databases, http, wait

_SIGNALS = """

from celery import signals


@signals.task_rejected.connect
def rejected(message=None, exc=None, **_):
    with open("rejected.txt", "a") as heard:
        heard.write(f"{type(exc).__name__} {message.headers.get('id') if message else None}\\n")


@shared_task
def note_error(*args):
    with open("errbacks.txt", "a") as heard:
        heard.write(f"{args[0]}\\n")
"""


def state_of(work: Work, celery_id: str) -> list[tuple[object, ...]]:
    columns = "state, error->>'type', task_type"
    return databases.rows(work.database_url, f"SELECT {columns} FROM task WHERE celery_id = %s", (celery_id,))


def failed(work: Work) -> list[tuple[object, ...]]:
    text = "SELECT celery_id, task_type, error->>'message' FROM task WHERE error->>'type' = 'MessageRefused'"
    return databases.rows(work.database_url, text)


CALLS: dict[str, dict[str, Any]] = {
    "too big": {"args": ("x" * 1_200_000,)},
    "not a number": {"args": (math.nan,)},
    "infinity deep inside": {"kwargs": {"x": {"a": [1, -math.inf]}}},
    "pickle": {"args": (1,), "serializer": "pickle"},
    "an eta that is no time": {"args": (1,), "headers": {"eta": "soon"}},
}


def test_a_message_that_cannot_run_is_a_failed_task_with_the_reason_and_its_sender_hears_of_it(
    work: Work, client_app: Celery, client: redis.Redis
):
    with (work.stack.folder / "contract_tasks.py").open("a") as module:
        module.write(_SIGNALS)
    worker = work.start()
    api = work.stack.api()
    sent: dict[str, AsyncResult] = {}
    for name, call in CALLS.items():
        sent[name] = client_app.send_task("contract_tasks.add", **call)
    for name, result in sent.items():
        found = [("FAILURE", "MessageRefused", "contract_tasks.add")]
        wait.until(lambda i=str(result.id), f=found: state_of(work, i) == f, 30, what=worker.log)
        with pytest.raises(Exception, match=r"Error|Disallowed"):
            result.get(timeout=30)
        assert result.state == "FAILURE", name
    reasons = {row[0]: str(row[2]) for row in failed(work)}
    assert "at most 1,048,576" in reasons[str(sent["too big"].id)]
    assert "not JSON" in reasons[str(sent["not a number"].id)]
    assert "pickle" in reasons[str(sent["pickle"].id)].lower() or "python-serialize" in reasons[str(sent["pickle"].id)]
    assert client.llen(REFUSED + "default") == len(sent), "they are kept as they are"
    heard = work.stack.folder / "rejected.txt"
    wait.until(lambda: heard.exists() and len(heard.read_text().splitlines()) == len(sent), 10)
    assert {line.split()[1] for line in heard.read_text().splitlines()} == {str(one.id) for one in sent.values()}
    for path in ("retry", "rerun"):
        answer = http.request("POST", f"{api.url}/tasks/{sent['pickle'].id}/{path}", {})
        assert answer.status == 409, "nobody knows its arguments"
        assert b"sent again" in answer.body
    [(events,)] = databases.rows(
        work.database_url,
        "SELECT array_agg(kind ORDER BY e.seq) FROM task_event e JOIN task t ON t.id = e.task_id WHERE t.celery_id = %s",
        (str(sent["pickle"].id),),
    )
    assert events == ["submitted", "failed"]


def test_garbage_without_id_or_name_is_a_failed_task_each(work: Work, client: redis.Redis):
    worker = work.start()
    headers = {"task": "nul\0", "id": "x\0"}
    protocol_7 = {"body": "W10=", "content-encoding": "utf-8", "content-type": "application/json", "headers": headers}
    yaml = {**protocol_7, "headers": {"task": "contract_tasks.add"}, "content-type": "application/x-yaml"}
    garbage = [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"{}",
        json.dumps(protocol_7).encode(),
        json.dumps(yaml).encode(),
        b'{"headers": {"id": NaN}}',
    ]
    client.lpush("default", *garbage)
    wait.until(lambda: len(failed(work)) == len(garbage), 30, what=worker.log)
    known = {row[:2] for row in failed(work)}
    assert known == {(None, "ledgerq.unreadable"), (None, "contract_tasks.add")}
    wait.until(lambda: client.llen("default") == 0, 10)
    assert worker.alive()


def test_what_waits_for_a_message_that_cannot_run_hears_of_it(work: Work, client_app: Celery):
    with (work.stack.folder / "contract_tasks.py").open("a") as module:
        module.write(_SIGNALS)
    work.start()
    add = client_app.signature("contract_tasks.add")
    errback = client_app.signature("contract_tasks.note_error")
    single = client_app.send_task("contract_tasks.add", (math.nan,), link_error=errback)
    heard = work.stack.folder / "errbacks.txt"
    body = add.clone(kwargs={"y": 1})
    joined = chord(group([add.clone((1, 2)), add.clone((math.nan, 2))], app=client_app), body, app=client_app)()
    with pytest.raises(Exception, match="not JSON"):
        joined.get(timeout=30)
    wait.until(lambda: heard.exists() and str(single.id) in heard.read_text(), 30)


def test_a_refused_message_with_a_known_id_leaves_the_earlier_outcome(work: Work, client_app: Celery):
    work.start()
    first = client_app.send_task("contract_tasks.add", (1, 2))
    assert first.get(timeout=30) == 3
    # An id that a task of the ledger has, in a message that cannot run: the earlier outcome is not its.
    client_app.send_task("contract_tasks.add", (math.nan,), task_id=first.id)
    wait.until(lambda: len(failed(work)) == 1, 30)
    states = "SELECT state, count(*) FROM task GROUP BY state ORDER BY state"
    assert databases.rows(work.database_url, states) == [("FAILURE", 1), ("SUCCESS", 1)]


def test_a_refused_message_with_the_id_of_a_task_that_waits_does_not_end_it(work: Work, client_app: Celery):
    """Its id may be the ledger's own: of a task that was submitted over HTTP, or by a retry."""
    worker = work.start()
    waiting = work.submit("add", NewTaskOptions(countdown=300), x=1, y=2)
    client_app.send_task("contract_tasks.add", (math.nan,), task_id=waiting)
    wait.until(lambda: "worker.message.refused" in worker.log(), 30, what=worker.log)
    states = "SELECT state FROM task WHERE id = %s"
    assert databases.rows(work.database_url, states, (waiting,)) == [("PENDING",)]
    assert databases.rows(work.database_url, "SELECT count(*) FROM held WHERE task_id = %s", (waiting,)) == [(1,)]
