"""Usual messages of Celery's producers are read the short way, and mean what kombu would read; others are left to it."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, chain, group
from kombu.transport.virtual import Channel
from kombu.utils.json import dumps, loads

from ledgerq_worker.celery.messages import task_from_message
from ledgerq_worker.celery.usual_messages import read_usual

ID = "3e1b1e5c-6f3b-4a55-8e2f-0d6a7c1b2a3d"

USUAL: dict[str, dict[str, Any]] = {
    "keywords": {"kwargs": {"x": 1, "y": [1.5, None, True, {"z": "ü"}]}},
    "positions": {"args": ("a", -3, 10**30), "kwargs": {}},
    "nothing": {},
    "headers": {"headers": {"sentry-trace": "00-1", "n": 2.5}, "expires": 60, "time_limit": 5, "shadow": "other"},
    "an eta": {"eta": datetime(2026, 1, 2, tzinfo=UTC), "root_id": ID, "parent_id": ID},
    "stamps": {"stamped_headers": ["tenant"], "tenant": ["a"], "stamps": {"tenant": ["a"]}},
}


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("usual", broker="memory://", set_as_current=False) as app:
        yield app


def element(app: Celery, **options: Any) -> dict[str, Any]:
    """The element that Celery and kombu write for these options."""
    headers, properties, body, _ = app.amqp.as_task_v2(ID, "shop.pay", **options)
    text, encoding = app.connection().default_channel.encode_body(json.dumps(body), "base64")
    properties = {**properties, "body_encoding": encoding, "delivery_tag": "t1", "priority": 0}
    return {
        "body": text, "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
        "properties": properties,
    }  # fmt: skip


def raw(parts: dict[str, Any]) -> bytes:
    return dumps(parts).encode()


@pytest.mark.parametrize("name", USUAL)
def test_a_usual_message_becomes_the_task_that_it_becomes_by_kombu(app: Celery, name: str):
    sent = raw(element(app, **USUAL[name]))
    usual = read_usual(sent)
    assert usual is not None
    kombus = Channel.Message(loads(sent), channel=app.connection().default_channel)
    kombus.accept = {"application/json"}
    body = kombus.payload
    options = {"queue": "q", "actor": "celery", "delivery": "t1"}
    long = task_from_message("shop.pay", kombus.headers, {"priority": 0}, body, **options)
    short = task_from_message(
        "shop.pay", usual.headers, {"priority": usual.priority}, ((), {}, usual.embed), arguments=usual.arguments,
        **options,
    )  # fmt: skip
    assert usual.delivery_tag == kombus.delivery_tag
    assert long.options is not None
    assert short.options is not None
    assert short._replace(id=long.id, parameters="", options=None) == long._replace(parameters="", options=None)
    assert json.loads(short.parameters) == json.loads(long.parameters)
    shorts, longs = json.loads(short.options.encoded()), json.loads(long.options.encoded())
    for of in (shorts, longs):
        of.update({part: json.loads(of.get(part, "null")) for part in ("args", "celery")})
    assert shorts == longs


def test_callbacks_and_chains_are_kept(app: Celery):
    step = app.signature("shop.ship", args=(1,))
    sent = element(app, callbacks=[step], chain=[chain(step, group(step, step))], kwargs={"x": 1})
    usual = read_usual(raw(sent))
    assert usual is not None
    assert usual.embed == json.loads(b64decode(sent["body"]))[2]


def _with_body(text: str) -> dict[str, Any]:
    return {"body": b64encode(text.encode()).decode()}


UNUSUAL: dict[str, dict[str, Any]] = {
    "a date": _with_body('[[{"__type__": "date", "__value__": "2026-01-02"}], {}, {}]'),
    "half a character": _with_body('[["\\ud800"], {}, {}]'),
    "NaN": _with_body("[[NaN], {}, {}]"),
    "no arguments": _with_body("[null, {}, {}]"),
    "keywords that are none": _with_body("[[], [], {}]"),
    "too few parts": _with_body("[[], {}]"),
    "protocol 1": _with_body('{"task": "shop.pay", "id": "1", "args": []}'),
    "no base64": {"body": "%"},
    "too large": _with_body(f'[["{"x" * 2**20}"], {{}}, {{}}]'),
    "pickle": {"content-type": "application/x-python-serialize"},
    "another character set": {"content-encoding": "latin-1"},
    "no headers": {"headers": None},
    "compressed": {"headers": {"task": "shop.pay", "id": ID, "compression": "application/x-gzip"}},
    "no name": {"headers": {"task": "", "id": ID}},
    "a number as its id": {"headers": {"task": "shop.pay", "id": 5}},
    "a UUID in a header": {"headers": {"task": "shop.pay", "id": ID, "who": UUID(ID)}},
    "no tag": {"properties": {"body_encoding": "base64"}},
    "a text as its priority": {"properties": {"body_encoding": "base64", "delivery_tag": "t", "priority": "7"}},
    "a plain body": {"properties": {"delivery_tag": "t"}},
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_left_to_kombu(app: Celery, name: str):
    assert read_usual(raw({**element(app), **UNUSUAL[name]})) is None


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe\x00", b"null", b"[]", b'"text"', b"{" * 5000, b"[" * 100_000])
def test_garbage_is_left_to_kombu(garbage: bytes):
    assert read_usual(garbage) is None
