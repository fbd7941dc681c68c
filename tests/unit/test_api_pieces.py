"""The API's small deciders: languages, addresses, waits, tags, names, deadlines."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgerq_api import catalogue as catalogues
from ledgerq_api.answers.errors import MalformedJson
from ledgerq_api.answers.languages import choose
from ledgerq_api.auth.callers import Caller
from ledgerq_api.ledger import Deadline
from ledgerq_api.requests.bodies import MAX_DEPTH, decode_problem
from ledgerq_api.settings import ApiSettings
from ledgerq_api.tasks.attempts import attempts_of
from ledgerq_api.tasks.drafts import draft
from ledgerq_api.tasks.long_poll import LONGEST_WAIT, wait_of
from ledgerq_api.tasks.schemas import decode_submit
from ledgerq_shared.errors import InvalidRequest, LedgerUnavailable, NoTaskTypes, UnknownTaskType
from ledgerq_shared.events import Event
from ledgerq_shared.settings import is_loopback, load
from ledgerq_shared.statements.catalogue import CatalogueRow

NOW = datetime(2026, 5, 20, tzinfo=UTC)


def catalogue(*names, schema=None, options=None, before=None, updated_at=NOW):
    schema = schema or {"type": "object"}
    rows = [CatalogueRow(name, "", schema, "default", options or {}, NOW, updated_at) for name in names]
    return catalogues.build(rows, before)


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (b"", "zh"),
        (b"*", "zh"),
        (b"de", "zh"),
        (b"en", "en"),
        (b"EN-us", "en"),
        (b"de, en;q=0.5", "en"),
        (b"en;q=0.4, zh-TW;q=0.6", "zh"),
        (b"en;q=0", "zh"),
        (b"en;q=x", "zh"),
        (b"\xff\xfe;;;q==,,", "zh"),
    ],
)
def test_the_language_a_client_prefers_is_chosen(header, chosen):
    assert choose(header, "zh") == chosen


@given(st.binary(max_size=60))
def test_any_accept_language_is_survived(header):
    assert choose(header, "en") in {"zh", "en"}


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_loopback_is_recognised(host, is_local):
    assert is_loopback(host) is is_local


def test_only_loopback_is_open_unless_said_otherwise(monkeypatch):
    assert load(ApiSettings).is_open
    monkeypatch.setenv("LEDGERQ_API_HOST", "0.0.0.0")
    assert not load(ApiSettings).is_open
    monkeypatch.setenv("LEDGERQ_ALLOW_ANONYMOUS", "true")
    assert load(ApiSettings).is_open


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        (b"", 0),
        (b"wait=30", 30),
        (b"Wait = 5", 5),
        (b'wait="7"', 7),
        (b"respond-async, wait=10", 10),
        (b"return=minimal; wait=3", 3),
        (b"wait=99999", LONGEST_WAIT),
        (b"wait=-1", 0),
        (b"await=5", 0),
        (b"wait=soon", 0),
    ],
)
def test_prefer_wait_is_understood(prefer, seconds):
    assert wait_of(prefer) == seconds


def test_an_unknown_name_comes_with_its_nearest():
    known = catalogue("clients.tasks.process_document", "clients.tasks.resize_image", "other.process_document")
    for wrong, nearest in (
        ("process_document", {"clients.tasks.process_document", "other.process_document"}),
        ("clients.tasks.resize_imag", {"clients.tasks.resize_image"}),
        ("somewhere.resize_images", {"clients.tasks.resize_image"}),
    ):
        with pytest.raises(UnknownTaskType) as raised:
            known.find(wrong, "#/task_type")
        assert nearest <= set(raised.value.extra["suggestions"])
    with pytest.raises(UnknownTaskType) as raised:
        known.find("zzz", "#/task_type")
    assert raised.value.extra["suggestions"] == []


def test_an_empty_catalogue_is_not_the_clients_fault():
    with pytest.raises(NoTaskTypes):
        catalogue().find("a.b", "#/task_type")


def test_an_unchanged_type_keeps_its_compiled_validator():
    first = catalogue("a.b", "c.d")
    again = catalogue("a.b", before=first)
    assert again.types["a.b"] is first.types["a.b"]
    assert "c.d" not in again.types
    assert catalogue("a.b", before=first, updated_at=datetime.now(UTC)).types["a.b"] is not first.types["a.b"]


@pytest.mark.parametrize(
    ("options", "own", "most"),
    [({}, None, None), ({"max_retries": 3}, None, 4), ({"max_retries": 3}, 0, 1), ({"max_retries": None}, 5, 6)],
)
def test_the_attempts_allowed_are_the_tasks_own_or_its_types(options, own, most):
    assert catalogue("a.b", options=options).types["a.b"].max_attempts(own) == most


def test_a_depth_of_sixty_four_is_the_limit():
    known = catalogue("a.b")
    # The parameters' own object is the first level.
    deepest = MAX_DEPTH - 1
    for nesting in ("[" * deepest + "]" * deepest, '{"a":' * (deepest - 1) + "{}" + "}" * (deepest - 1)):
        draft(decode_submit(f'{{"task_type":"a.b","task_parameters":{{"x":{nesting}}}}}'.encode()), known, Caller())
        with pytest.raises(InvalidRequest):
            draft(
                decode_submit(f'{{"task_type":"a.b","task_parameters":{{"x":[{nesting}]}}}}'.encode()), known, Caller()
            )
    # Many brackets side by side are not deep.
    draft(
        decode_submit(f'{{"task_type":"a.b","task_parameters":{{"x":[{",".join(["[]"] * 500)}]}}}}'.encode()),
        known,
        Caller(),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_json_object_is_kept_as_it_was_written(parameters):
    try:
        text = json.dumps(parameters, ensure_ascii=False)
        body = f'{{"task_type":"a.b","task_parameters":{text}}}'.encode()
    except UnicodeEncodeError:
        return  # hypothesis's lone surrogates have no UTF-8 form
    assert draft(decode_submit(body), catalogue("a.b"), Caller()).parameters == text


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_task_or_a_refusal(body):
    with pytest.raises((InvalidRequest, MalformedJson)):
        submit(body)


def submit(body):
    try:
        return draft(decode_submit(body), catalogue("a.b"), Caller())
    except (ValueError, RecursionError) as error:
        raise decode_problem(error, body) from None


def test_a_body_that_did_not_decode_is_explained_in_the_clients_words():
    cases = [
        (b'{"task_type": 5}', InvalidRequest, "task_type"),
        (b'{"task_type": "a", "tags": ["x", 5]}', InvalidRequest, "tags/1"),
        (b'{"task_type": "\\ud800"', MalformedJson, "JSON"),
        (b'{"task_type": "\\ud800"}', InvalidRequest, "surrogate"),
        (b'{"task_type": "a", "x": 1}', InvalidRequest, "body: Object contains unknown field `x`"),
        (b"", MalformedJson, "empty"),
        (b"\xff", MalformedJson, "JSON"),
    ]
    for body, kind, words in cases:
        with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)) as raised:
            decode_submit(body)
        problem = decode_problem(raised.value, body)
        assert type(problem) is kind, body
        assert words in str(problem)


def event(seq, kind, attempt, actor="worker:w"):
    return Event(seq, NOW, kind, attempt, actor, None)


def test_attempts_survive_recovery_and_revocation():
    history = [
        event(1, "submitted", 0, "api"),
        event(2, "dispatched", 0),
        event(3, "started", 1),
        event(4, "recovered", 1, "maintenance"),
        event(6, "started", 2),
        event(7, "revoked", 2),
        event(8, "resubmitted", 2, "api"),
    ]
    told = [(attempt.attempt, attempt.outcome) for attempt in attempts_of(history)]
    assert told == [(1, "recovered"), (2, "revoked")]


def test_a_deadline_ends_only_waits_that_are_late():
    async def run():
        loop = asyncio.get_running_loop()
        deadline = Deadline(0.05, lambda item: LedgerUnavailable(f"{item} is late"))
        late, done = loop.create_future(), loop.create_future()
        deadline.watch(done, "first")
        deadline.watch(late, "second")
        done.set_result(1)
        with pytest.raises(LedgerUnavailable, match="second is late"):
            await asyncio.wait_for(late, 10)
        again = loop.create_future()
        deadline.watch(again, "third")
        with pytest.raises(LedgerUnavailable, match="third"):
            await asyncio.wait_for(again, 10)
        return await done

    assert asyncio.run(run()) == 1


def test_ids_of_drafts_are_new_and_in_order():
    known = catalogue("a.b")
    body = decode_submit(b'{"task_type":"a.b"}')
    ids = [draft(body, known, Caller()).id for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(isinstance(task_id, uuid.UUID) for task_id in ids)
