"""A Celery message becomes a task of the ledger, and its request context comes back whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.app.task import Context
from kombu.exceptions import EncodeError

from ledgerq_shared.ids import cell_of, new_task_id, use_cell
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.submit import NewTask
from ledgerq_worker.celery.messages import moment, priority_of, request_of, task_from_message
from ledgerq_worker.slot.encoding import decode

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("messages", broker="memory://", set_as_current=False) as app:
        yield app


def adopted(app: Celery, *, task_id: str | None = None, priority: int | None = None, **options: Any) -> NewTask:
    """The ledger task for what Celery itself writes for these options."""
    message = app.amqp.as_task_v2(task_id or str(uuid4()), "proj.add", **options)
    properties = {**message.properties, "priority": priority}
    return task_from_message("proj.add", message.headers, properties, message.body, queue="q", actor="celery")


def options_of(task: NewTask) -> dict[str, Any]:
    assert task.options is not None
    return dict(json.loads(task.options.encoded()))


def claimed(task: NewTask) -> ClaimedTask:
    """As the claim would return it."""
    options = task.options
    assert options is not None
    return ClaimedTask(
        claim_no=1, id=str(task.id), celery_id=options.celery_id, task_type=task.task_type, queue=task.queue,
        priority=task.priority, state="PENDING", attempt=0, retries=options.retries or 0, max_retries=None,
        time_limit=options.time_limit, soft_time_limit=options.soft_time_limit, args=options.args,
        parameters=task.parameters, celery=options.celery, expires_at=None, is_expired=False,
        is_cancelled=False, on_worker_lost=None, is_alone=False, ready_at=NOW,
    )  # fmt: skip


def context(task: NewTask) -> Context:
    """The request that the task's code would see."""
    row = claimed(task)
    return Context(request_of(row, decode(row.celery, from_celery=True), hostname="w"))


def test_a_plain_message_becomes_a_task_with_its_arguments(app: Celery):
    task = adopted(app, args=(1, "two"), kwargs={"three": [3]})
    assert (task.task_type, task.queue, task.priority, task.actor) == ("proj.add", "q", 5, "celery")
    assert json.loads(task.parameters) == {"three": [3]}
    assert task.options is not None
    assert json.loads(task.options.args or "") == [1, "two"]


def test_a_strangers_id_is_kept_beside_ours(app: Celery):
    celery_id = str(uuid4())
    task = adopted(app, task_id=celery_id)
    assert task.options is not None
    assert task.options.celery_id == celery_id
    assert task.id.version == 7
    assert context(task).id == celery_id


def test_an_id_that_ledgerq_made_is_the_tasks_own(app: Celery):
    own = new_task_id()
    task = adopted(app, task_id=str(own))
    assert task.id == own
    assert task.options is not None
    assert task.options.celery_id is None
    assert context(task).id == str(own)


@pytest.mark.parametrize(
    "task_id", ["my-own-id", "01A20B5A-3346-789E-8314-9406F5C2AF92", "01a20b5a33467960bdf72298e6a6a004"]
)
def test_any_text_may_be_an_id(app: Celery, task_id: str):
    task = adopted(app, task_id=task_id)
    assert task.options is not None
    assert task.options.celery_id == task_id
    assert str(task.id) != task_id


def test_times_and_limits_become_columns(app: Celery):
    eta, expires = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    options = options_of(adopted(app, eta=eta, expires=expires, time_limit=30, soft_time_limit=20.5, retries=2))
    assert datetime.fromisoformat(options["run_at"]) == eta
    assert datetime.fromisoformat(options["expires_at"]) == expires
    assert (options["time_limit"], options["soft_time_limit"], options["retries"]) == (30, 20.5, 2)


def test_a_countdown_that_was_kept_counts_by_the_databases_clock(app: Celery):
    message = app.amqp.as_task_v2(str(uuid4()), "proj.add", countdown=30)
    message.headers["countdown"] = 30.0
    task = task_from_message("proj.add", message.headers, {}, message.body, queue="q", actor="celery")
    options = options_of(task)
    assert options["countdown"] == 30
    assert "run_at" not in options


def test_a_time_without_a_zone_is_in_the_applications(app: Celery):
    message = app.amqp.as_task_v2(str(uuid4()), "proj.add", eta=datetime(2026, 1, 2, 11))  # noqa: DTZ001
    shanghai = ZoneInfo("Asia/Shanghai")
    task = task_from_message("proj.add", message.headers, {}, message.body, queue="q", actor="x", timezone=shanghai)
    assert datetime.fromisoformat(options_of(task)["run_at"]) == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert moment("2026-01-02T11:00:00", UTC) == "2026-01-02T11:00:00+00:00"
    assert moment("2026-01-02T11:00:00Z", shanghai) == "2026-01-02T11:00:00+00:00"
    assert moment(None, UTC) is None


@pytest.mark.parametrize(
    ("asked", "got"), [(None, 5), (0, 0), (3, 3), (9, 9), (10, 9), (255, 9), (-1, 0), ("7", 7), (4.0, 4)]
)
def test_priorities_are_cut_off_at_both_ends(asked: Any, got: int):
    assert priority_of({"priority": asked}, 5) == got


def test_no_priority_is_the_usual_one():
    assert priority_of({}, 8) == 8


@pytest.mark.parametrize(
    "header",
    [
        {"eta": "tomorrow"},
        {"expires": "soon"},
        {"eta": 17},
        {"retries": "many"},
        {"timelimit": ["long", None]},
        {"timelimit": [math.nan, None]},
        {"timelimit": 5},
        {"timelimit": [1, 2, 3]},
        {"countdown": math.inf},
    ],
)
def test_a_header_that_celery_never_writes_is_an_error_and_not_a_poisonous_row(app: Celery, header: dict[str, Any]):
    message = app.amqp.as_task_v2(str(uuid4()), "proj.add")
    with pytest.raises((ValueError, TypeError)):
        task_from_message("proj.add", {**message.headers, **header}, {}, message.body, queue="q", actor="celery")


@pytest.mark.parametrize(
    "options",
    [{"args": (math.nan,)}, {"kwargs": {"x": object()}}, {"callbacks": [{"task": "t", "args": [math.inf]}]}],
    ids=["args", "kwargs", "callbacks"],
)
def test_what_json_cannot_hold_is_celerys_encode_error(app: Celery, options: dict[str, Any]):
    with pytest.raises(EncodeError):
        adopted(app, **options)


def test_chains_chords_groups_and_callbacks_come_back_in_the_request(app: Celery):
    signature = app.signature("proj.next", args=(1,), options={"task_id": "n"})
    task = adopted(
        app,
        chain=[signature],
        chord=app.signature("proj.body"),
        callbacks=[signature],
        errbacks=[app.signature("proj.error")],
        group_id="g",
        group_index=3,
        root_id="r",
        parent_id="p",
        replaced_task_nesting=2,
        ignore_result=True,
    )
    request = context(task)
    assert request.chain[0]["task"] == "proj.next"
    assert request.chord["task"] == "proj.body"
    assert request.callbacks[0]["options"] == {"task_id": "n"}
    assert request.errbacks[0]["task"] == "proj.error"
    assert (request.group, request.group_index, request.root_id, request.parent_id) == ("g", 3, "r", "p")
    assert (request.replaced_task_nesting, request.ignore_result) == (2, True)


def test_headers_of_the_users_own_reach_the_task(app: Celery):
    message = app.amqp.as_task_v2(str(uuid4()), "proj.add")
    headers = {**message.headers, "traceparent": "00-abc", "tenant": {"id": 7}}
    task = task_from_message("proj.add", headers, {}, message.body, queue="q", actor="celery")
    request = context(task)
    assert (request.get("traceparent"), request.get("tenant")) == ("00-abc", {"id": 7})


def test_the_request_of_a_task_from_http_has_what_celerys_code_reads(app: Celery):
    row = claimed(adopted(app))._replace(celery=None, celery_id=None, retries=2, attempt=4, time_limit=9.0)
    request = Context(request_of(row, None, hostname="w"))
    assert (request.id, request.root_id, request.correlation_id) == (row.id, row.id, row.id)
    assert (request.retries, request.hostname, request.is_eager) == (2, "w", False)
    assert request.delivery_info == {"exchange": "", "routing_key": "q", "priority": 5, "redelivered": True}
    assert request.timelimit == [9.0, None]
    assert request.chain is None
    assert request.expires is None


def test_a_first_run_and_a_retry_are_not_redelivered(app: Celery):
    row = claimed(adopted(app))
    assert not request_of(row, {}, hostname="w")["delivery_info"]["redelivered"]
    again = row._replace(attempt=1, retries=1)
    assert not request_of(again, {}, hostname="w")["delivery_info"]["redelivered"]


def test_what_is_sent_under_a_foreign_id_gets_one_of_this_cell(app: Celery):
    foreign = str(new_task_id())
    try:
        use_cell(7)
        task = adopted(app, task_id=foreign)
        assert cell_of(task.id) == 7
        assert task.options is not None
        assert task.options.celery_id == foreign
        own = str(new_task_id())
        assert str(adopted(app, task_id=own).id) == own
    finally:
        use_cell(0)
