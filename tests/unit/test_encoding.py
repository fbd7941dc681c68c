"""Values on their way into the ledger: JSON as people expect it, and a clear error for what JSON cannot hold."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from celery.utils.serialization import UnpickleableExceptionWrapper
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import EncodeError
from pydantic import BaseModel

from ledgerq_worker.slot.encoding import (
    MAX_VALUE_BYTES,
    ResultNotSerializable,
    ResultTooLarge,
    decode,
    describe_error,
    encode_arguments,
    encode_celery,
    encode_result,
    to_json,
)

ID = UUID("0199c2d1-0000-7000-8000-000000000001")
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Model(BaseModel):
    when: datetime
    parts: set[int]


@dataclass
class Plain:
    x: int


@given(json_values)
def test_every_json_value_comes_back_as_it_was(value: Any):
    text = encode_result(value)
    assert "\0" not in text.encode().decode(), "surrogates and NUL are escaped, so that PostgreSQL takes them"
    assert decode(text, from_celery=False) == value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (ID, str(ID)),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ((1, (2,)), [1, [2]]),
        ({1: "a", None: "b", False: "c"}, {"1": "a", "null": "b", "false": "c"}),
        (Model(when=datetime(2026, 1, 2, tzinfo=UTC), parts={7}), {"when": "2026-01-02T00:00:00Z", "parts": [7]}),
        ({"deep": [ID, {"d": date(2026, 1, 2)}]}, {"deep": [str(ID), {"d": "2026-01-02"}]}),
        ("lone \ud800 and \x00", "lone \ud800 and \x00"),
        (10**400, 10**400),
    ],
)
def test_what_people_return_becomes_what_they_expect(value: Any, stored: Any):
    assert json.loads(encode_result(value)) == stored


@pytest.mark.parametrize("character", ["x", "é", "中", "😀"])
def test_what_counts_is_what_is_stored_in_utf_8(character: str):
    most = MAX_VALUE_BYTES // len(character.encode()) - 20
    assert json.loads(encode_result(character * most)) == character * most
    assert encode_arguments([character * most], {})[0] is not None
    with pytest.raises(ResultTooLarge, match=r"1,0[45]"):
        encode_result(character * (most + 20))
    with pytest.raises(EncodeError, match=r"1,0[45]"):
        encode_arguments([character * (most + 20)], {})


def test_a_text_that_has_no_utf_8_form_is_escaped_as_a_whole():
    assert encode_result(["中", "\ud800"]) == r'["\u4e2d","\ud800"]'


def self_containing() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [-math.inf],
        {1, 2},
        b"bytes",
        bytearray(b"x"),
        object(),
        Plain(1),
        1j,
        range(3),
        iter([]),
        ValueError("x"),
        {(1, 2): 3},
        self_containing(),
        deep(100_000),
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_an_error_that_names_the_type(value: Any):
    with pytest.raises(ResultNotSerializable) as caught:
        encode_result(value)
    assert f"return value of type {type(value).__name__} is not JSON" in str(caught.value)
    assert isinstance(caught.value, EncodeError), "Celery's tracer takes only its own kind for the task's failure"


class Hostile:
    """Its own code raises whatever it likes while it is encoded."""

    def model_dump(self, mode: str) -> Any:
        raise KeyError(mode)


def test_a_value_whose_own_code_fails_is_the_tasks_error():
    with pytest.raises(ResultNotSerializable, match="type Hostile is not JSON"):
        encode_result(Hostile())


def test_a_result_may_have_a_mebibyte_and_not_a_byte_more():
    text = "x" * (MAX_VALUE_BYTES - 2)
    assert len(encode_result(text)) == MAX_VALUE_BYTES
    with pytest.raises(ResultTooLarge, match="1,048,577 bytes"):
        encode_result(text + "x")


@given(st.lists(json_values, max_size=3), st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_arguments_come_back_as_they_were(args: list[Any], kwargs: dict[str, Any]):
    encoded_args, encoded_kwargs = encode_arguments(tuple(args), kwargs)
    assert (decode(encoded_args, from_celery=True) or []) == args
    assert decode(encoded_kwargs, from_celery=True) == kwargs


def test_arguments_keep_the_types_that_celery_keeps():
    args = [datetime(2026, 1, 2, 3, tzinfo=UTC), ID, Decimal("1.10")]
    encoded, _ = encode_arguments(args, None)
    assert decode(encoded, from_celery=True) == args


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, object(), {(1, 2): 3}, self_containing(), deep(100_000)], ids=lambda v: type(v).__name__
)
def test_arguments_that_are_not_json_are_celerys_own_error(bad: Any):
    with pytest.raises(EncodeError):
        encode_arguments((bad,), {})
    with pytest.raises(EncodeError):
        encode_arguments((), {"bad": bad})
    with pytest.raises(EncodeError):
        encode_celery({"chain": [{"args": [bad]}]})


def test_arguments_may_have_a_mebibyte_together():
    with pytest.raises(EncodeError, match="The arguments are"):
        encode_arguments(("x" * 600_000,), {"y": "x" * 600_000})


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301 - it needs a traceback
    except BaseException as caught:
        return caught


def test_an_error_keeps_type_message_and_traceback():
    described = describe_error(raised(ValueError("wrong")), None)
    assert (described["type"], described["message"], described["retryable"]) == ("ValueError", "wrong", True)
    assert described["traceback"].startswith("Traceback (most recent call last):")
    assert described["traceback"].endswith("ValueError: wrong\n")
    assert describe_error(ValueError("wrong"), "as given")["traceback"] == "as given"


@pytest.mark.parametrize(
    "error",
    [
        Mute(),
        SystemExit(3),
        KeyboardInterrupt(),
        ExceptionGroup("g", [ValueError(1)]),
        ValueError("\ud800\x00"),
        KeyError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_can_be_described(error: BaseException):
    described = describe_error(raised(error), None)
    assert described["type"] == type(error).__name__
    assert json.loads(to_json(described)) == described


def test_an_exception_without_words_says_so():
    assert describe_error(Mute(), "")["message"] == "<the message could not be read: RuntimeError>"


def test_huge_errors_are_cut_and_keep_the_end_of_the_traceback():
    described = describe_error(ValueError("m" * 10_000_000), "t" * 10_000_000 + "the end")
    assert len(described["message"]) == 64 * 1024
    assert len(described["traceback"]) == 64 * 1024
    assert described["traceback"].endswith("the end")


def test_nothing_is_nothing():
    assert decode(None, from_celery=True) is None
    assert decode(None, from_celery=False) is None


def test_an_exception_that_celery_had_to_wrap_keeps_its_own_name():
    wrapped = UnpickleableExceptionWrapper("shop", "OutOfStock", ("tea",), "OutOfStock('tea')")
    assert describe_error(wrapped, "")["type"] == "OutOfStock"
