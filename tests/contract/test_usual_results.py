"""A success that is written the short way is what Celery writes; what is not usual is left to Celery."""

from __future__ import annotations

import datetime as dt
import enum

import pytest
from celery import Celery
from celery.app.task import Context
from celery.result import AsyncResult

from ledgerq_worker.celery.seams.usual_results import usual_result, writes_usual_results


def _application(**settings: object) -> Celery:
    app = Celery("usual", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(settings)
    return app


class _Colour(str, enum.Enum):  # noqa: UP042  (users have them)
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [None, True, -1, 2**70, 1.5, float("inf"), 'é"\\\n\x00\ud800', [1, [None]], {"a": {"b": 1}}, (1, 2), _Colour.RED],
    ids=repr,
)  # fmt: skip
def test_the_short_way_writes_what_celery_writes(value):
    backend, now = _application().backend, dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    meta = backend._get_result_meta(value, "SUCCESS", None, Context({"id": "an id"}))
    meta |= {"task_id": 'it"s', "date_done": now.isoformat()}
    assert usual_result('it"s', value, Context({"id": "an id"}), now) == backend.encode(meta)


@pytest.mark.parametrize("value", [dt.datetime.now(dt.UTC), b"bytes", {1, 2}, {("a",): 1}], ids=type)
def test_a_value_that_is_not_jsons_own_is_left_to_celery(value):
    assert usual_result("id", value, Context(), dt.datetime.now(dt.UTC)) is None


def test_a_value_that_holds_itself_is_left_to_celery():
    value: list[object] = []
    value.append(value)
    assert usual_result("id", value, Context(), dt.datetime.now(dt.UTC)) is None


@pytest.mark.parametrize(
    "relatives", [None, {"group": "g"}, {"parent_id": "p"}, {"_children": [AsyncResult("c")]}], ids=repr
)
def test_a_task_with_relatives_is_left_to_celery(relatives):
    request = None if relatives is None else Context(relatives)
    assert usual_result("id", 1, request, dt.datetime.now(dt.UTC)) is None


@pytest.mark.parametrize(
    ("settings", "is_usual"),
    [
        ({}, True),
        ({"timezone": "Asia/Shanghai", "enable_utc": False}, True),
        ({"result_extended": True}, False),
        ({"result_serializer": "yaml"}, False),
        ({"result_serializer": "pickle"}, False),
        ({"result_compression": "zlib"}, False),
    ],
    ids=repr,
)
def test_an_application_that_changes_the_form_of_results_is_noticed(settings, is_usual):
    assert writes_usual_results(_application(**settings).backend) is is_usual
