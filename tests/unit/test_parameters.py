"""JSON Schemas of signatures: what they say, what they accept and what they refuse."""

import enum
import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Required, Union
from uuid import UUID

import pytest
from celery import Celery, Task
from jsonschema_rs import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict, Unpack

from ledgerq_worker.catalogue.parameters import DIALECT, parameters_schema

if TYPE_CHECKING:
    from decimal import Context


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(BaseModel):
    x: int
    y: int = 0


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    points: list[Point]
    inner: Optional["Shape"] = None


class Sides(TypedDict, total=False):
    width: Required[int]
    height: int


@dataclass
class Box:
    sides: Sides
    colour: Colour = Colour.RED


class Opaque:
    pass


def no_parameters(): ...
def unannotated(a, b=2): ...
def plain(a: int, b: str, c: float, d: bool): ...
def containers(a: list[int], b: dict[str, float], c: tuple[int, str], d: set[str]): ...
def optional(a: int | None, b: Optional[str] = None, c: Union[int, str] = 1): ...  # noqa: UP007, UP045
def implicit_optional(a: int = None, b: Annotated[str, Field(min_length=2)] = None): ...  # noqa: RUF013
def choices(a: Literal["x", "y", 3], b: Colour = Colour.BLUE, c: Level = Level.LOW): ...
def models(shape: Shape, point: Point | None = None): ...
def typed_dict(sides: Sides): ...
def data_class(box: Box): ...
def rich(a: datetime, b: UUID, c: Decimal, d: timedelta): ...
def bounded(a: Annotated[int, Field(ge=0, le=9, description="a digit")] = 5): ...
def keyword_only(a: int, *, b: int, c: int = 3): ...
def variadic(a: int, *args: int, **kwargs): ...
def typed_variadic(**kwargs: int): ...
def unpacked(**kwargs: Unpack[Sides]): ...
def positional_only(a: int, /, b: int): ...
def unresolvable(a: "Nowhere", b: "Context", c: int): ...  # noqa: F821
def opaque(a: Opaque, b: Callable[[int], int], c: list[Opaque], d: int): ...
def odd_defaults(a=Opaque(), b={"z", "y", "x"}, c=float("nan"), d=Point(x=1), e=(1, 2)): ...  # noqa: B006, B008
def odd_names(copy: int, json: str, model_config: int, _private: int, schema: int = 1): ...
def anything(a: Any, b: object): ...
def in_text(a: "int", b: "list[Point]"): ...
def bad_hint(a: 3, b: "1 +", c: "1 / 0", d: str): ...  # noqa: F722


@pytest.mark.parametrize(
    ("function", "accepted", "refused"),
    [
        (no_parameters, [{}], [{"a": 1}]),
        (unannotated, [{"a": None}, {"a": [1], "b": "x"}], [{}, {"b": 1}, {"a": 1, "c": 1}]),
        (
            plain,
            [{"a": 1, "b": "x", "c": 1.5, "d": True}],
            [{"a": "1", "b": "x", "c": 1, "d": True}, {"a": 1, "b": 1, "c": 1, "d": True}, {"a": 1}],
        ),
        (
            containers,
            [{"a": [1], "b": {"k": 1}, "c": [1, "x"], "d": ["s"]}],
            [{"a": ["x"], "b": {}, "c": [1, "x"], "d": []}, {"a": [], "b": {}, "c": [1], "d": []}],
        ),
        (optional, [{"a": None}, {"a": 1, "b": None, "c": "x"}], [{}, {"a": "x"}, {"a": 1, "c": None}]),
        (implicit_optional, [{}, {"a": None, "b": None}, {"b": "xx"}], [{"a": "x"}, {"b": "x"}]),
        (
            choices,
            [{"a": "x"}, {"a": 3, "b": "red", "c": 2}],
            [{"a": "z"}, {"a": "x", "b": "RED"}, {"a": "x", "c": 9}],
        ),
        (
            models,
            [
                {"shape": {"points": [{"x": 1}]}},
                {"shape": {"points": [], "inner": {"points": []}}, "point": None},
            ],
            [{"shape": {}}, {"shape": {"points": [{"y": 1}]}}, {"shape": {"points": [], "more": 1}}],
        ),
        (
            typed_dict,
            [{"sides": {"width": 1}}],
            [{"sides": {"height": 1}}, {"sides": {"width": "1"}}, {"sides": 1}],
        ),
        (
            data_class,
            [{"box": {"sides": {"width": 1}, "colour": "blue"}}],
            [{"box": {}}, {"box": {"sides": {}}}],
        ),
        (
            rich,
            [{"a": "2026-01-01T00:00:00Z", "b": str(UUID(int=1)), "c": "1.5", "d": "PT1S"}],
            [{"a": 1, "b": "x", "c": 1, "d": "PT1S"}],
        ),
        (bounded, [{}, {"a": 0}], [{"a": 10}, {"a": -1}]),
        (keyword_only, [{"a": 1, "b": 2}], [{"a": 1}, {"b": 1}]),
        (variadic, [{"a": 1}, {"a": 1, "more": "x"}], [{}, {"a": "x"}]),
        (typed_variadic, [{}, {"more": 1}], [{"more": "x"}]),
        (unpacked, [{}, {"width": 1}], []),
        (positional_only, [], [{"b": 1}, {"a": 1, "b": 1}]),
        (unresolvable, [{"a": 1, "b": "x", "c": 1}], [{"a": 1, "b": 1, "c": "x"}, {"a": 1}]),
        (opaque, [{"a": 1, "b": None, "c": "x", "d": 1}], [{"a": 1, "b": 1, "c": 1, "d": "x"}]),
        (odd_defaults, [{}, {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}], [{"f": 1}]),
        (odd_names, [{"copy": 1, "json": "x", "model_config": 1, "_private": 1}], [{"copy": "x"}]),
        (anything, [{"a": None, "b": {"k": []}}], [{"a": 1}]),
        (in_text, [{"a": 1, "b": [{"x": 1}]}], [{"a": "x", "b": []}, {"a": 1, "b": [{}]}]),
        (bad_hint, [{"a": 1, "b": 2, "c": 3, "d": "x"}], [{"a": 1, "b": 2, "c": 3, "d": 4}]),
        (functools.partial(plain, 1), [{"b": "x", "c": 1, "d": False}], [{"c": 1}]),
        (dict.__new__, [{"whatever": 1}], []),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else "",
)
def test_a_schema_accepts_what_fits_the_signature_and_nothing_else(
    function: Callable[..., Any], accepted: list[Any], refused: list[Any]
):
    schema = parameters_schema(function)
    validator = Draft202012Validator(schema)
    assert [value for value in accepted if not validator.is_valid(value)] == []
    assert [value for value in refused if validator.is_valid(value)] == []
    assert not validator.is_valid([])


def test_a_schema_reads_as_expected_in_full():
    assert parameters_schema(keyword_only) == {
        "$schema": DIALECT,
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "integer"},
            "c": {"type": "integer", "default": 3},
        },
        "required": ["a", "b"],
        "additionalProperties": False,
    }


def test_defaults_are_shown_where_json_can_express_them():
    properties = parameters_schema(odd_defaults)["properties"]
    assert properties == {
        "a": {},
        "b": {"default": ["x", "y", "z"]},
        "c": {},
        "d": {"default": {"x": 1, "y": 0}},
        "e": {"default": [1, 2]},
    }
    assert parameters_schema(choices)["properties"]["b"]["default"] == "blue"


def test_descriptions_and_bounds_of_annotations_are_kept():
    assert parameters_schema(bounded)["properties"]["a"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 9,
        "description": "a digit",
        "default": 5,
    }


def _decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"autoretry_for": (ValueError,)},
        {"pydantic": True},
        {"pydantic": True, "autoretry_for": (ValueError,), "retry_backoff": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("decorate", [lambda function: function, _decorated], ids=["plain", "decorated"])
@pytest.mark.parametrize("bind", [True, False])
def test_the_bound_task_is_no_parameter_whatever_wraps_it(
    bind: bool, decorate: Callable[..., Any], options: dict[str, Any]
):
    def bound(self: Task, point: Point, n: int = 1) -> None: ...

    def unbound(point: Point, n: int = 1) -> None: ...

    with Celery("parameters", set_as_current=False) as app:
        task = app.task(decorate(bound if bind else unbound), bind=bind, name="wrapped", shared=False, **options)
        schema = parameters_schema(app.tasks[task.name].run)
    assert list(schema["properties"]) == ["point", "n"]
    assert schema["properties"]["n"] == {"type": "integer", "default": 1}
    assert schema["required"] == ["point"]
    assert Draft202012Validator(schema).is_valid({"point": {"x": 1}})
    assert not Draft202012Validator(schema).is_valid({"point": {}})


def test_schemas_are_the_same_text_in_every_process():
    program = (
        "import json; from ledgerq_worker.catalogue.parameters import parameters_schema\n"
        "def f(a=frozenset('edcba'), b: set = {'q', 'p', 'r'}): ...\n"
        "print(json.dumps(parameters_schema(f)))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
