"""Schemas of tasks behind decorators, and behind a `__call__` of their own: what somebody may supply is not asked for."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, Task
from jsonschema_rs import Draft202012Validator
from pydantic import BaseModel

from ledgerq_worker.catalogue.registry import task_types


class User(BaseModel):
    name: str


def gives_by_name(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, session="s", **kwargs)

    return wrapper


def gives_first(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with_session = ("s", *args)
        return function(*with_session, **kwargs)

    return wrapper


def gives_unless_given(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("session", "s")
        return function(*args, **kwargs)

    return wrapper


def calls_another(function: Callable[..., Any]) -> Callable[..., Any]:
    def with_session(*args: Any, **kwargs: Any) -> Any:
        return function(*args, session="s", **kwargs)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return with_session(*args, **kwargs)

    return wrapper


def takes_one_more(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, tenant: str, **kwargs: Any) -> Any:
        return function(*args, session=tenant, **kwargs)

    return wrapper


def has_its_own_parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(x: int) -> Any:
        return function(x, session="s")

    return wrapper


def says_what_it_takes(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, session="s", **kwargs)

    kept = [p for p in inspect.signature(function).parameters.values() if p.name != "session"]
    wrapper.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    return wrapper


class ByObject:
    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, session="s", **kwargs)


def by_partial(function: Callable[..., Any]) -> Callable[..., Any]:
    partial = functools.update_wrapper(functools.partial(function, session="s"), function)
    return passes_on(partial)  # Celery takes functions only


def by_lambda(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, session="s", **kwargs))


def without_source(function: Callable[..., Any]) -> Callable[..., Any]:
    scope: dict[str, Any] = {"function": function}
    exec("def wrapper(*args, **kwargs): return function(*args, session='s', **kwargs)", scope)  # noqa: S102
    return functools.wraps(function)(scope["wrapper"])  # type: ignore[no-any-return]


def passes_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        """Tries it twice."""
        try:
            return function(*args, **kwargs)
        except ValueError:
            return function(*args, **kwargs)

    return wrapper


def passes_on_with_the_task(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(self: Task, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    return wrapper


def gives_after_the_task(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(self: Task, *args: Any, **kwargs: Any) -> Any:
        return function(self, "s", *args, **kwargs)

    return wrapper


def _schema(body: Callable[..., Any], **options: Any) -> Draft202012Validator:
    with Celery("wrapped", set_as_current=False) as app:
        app.task(body, name="wrapped", shared=False, **options)
        [spec] = [one for one in task_types(app) if one.name == "wrapped"]  # others may be shared
    return Draft202012Validator(spec.parameters_schema)


GIVES = [
    gives_by_name, gives_unless_given, calls_another, has_its_own_parameters, says_what_it_takes, ByObject, by_partial,
    by_lambda, without_source,
]  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"autoretry_for": (ValueError,)}], ids=["plain", "autoretry"])
@pytest.mark.parametrize("again", [None, passes_on], ids=["once", "below another"])
@pytest.mark.parametrize("decorate", GIVES, ids=lambda one: one.__name__)
def test_what_a_decorator_supplies_need_not_be_given(
    decorate: Callable[..., Any], again: Callable[..., Any] | None, options: dict[str, Any]
):
    def load(x: int, session: str) -> None: ...

    body = decorate(load)
    schema = _schema(body if again is None else again(body), **options)
    assert schema.is_valid({"x": 1})
    assert not schema.is_valid({"x": "one"}), "what it says of the others still counts"


def test_what_a_decorator_supplies_by_place_need_not_be_given():
    def load(session: str, x: int) -> None: ...

    assert _schema(gives_first(load)).is_valid({"x": 1})


def test_what_a_decorator_takes_itself_is_asked_for_and_may_be_given():
    def load(x: int, session: str) -> None: ...

    schema = _schema(takes_one_more(load))
    assert schema.is_valid({"x": 1, "tenant": "a"})
    assert not schema.is_valid({"x": 1})


def test_what_a_decorator_may_make_an_object_of_may_be_anything():
    def greet(user: User) -> None: ...

    assert _schema(gives_unless_given(greet)).is_valid({"user": 7})


@pytest.mark.parametrize("decorate", [gives_after_the_task, gives_by_name], ids=lambda one: one.__name__)
def test_what_a_decorator_of_a_bound_task_supplies_need_not_be_given(decorate: Callable[..., Any]):
    def load(self: Task, session: str, x: int) -> None: ...

    assert _schema(decorate(load), bind=True).is_valid({"x": 1})


@pytest.mark.parametrize(
    ("decorate", "bind"),
    [(passes_on, False), (passes_on, True), (passes_on_with_the_task, True)],
    ids=["unbound", "bound", "bound, and the task by name"],
)
def test_a_decorator_that_passes_everything_on_changes_nothing(decorate: Callable[..., Any], bind: bool):
    def bound(self: Task, x: int, y: int = 1) -> None: ...

    def unbound(x: int, y: int = 1) -> None: ...

    schema = _schema(passes_on(decorate(bound if bind else unbound)), bind=bind)
    assert schema.is_valid({"x": 1})
    for wrong in ({}, {"x": "one"}, {"x": 1, "z": 1}):
        assert not schema.is_valid(wrong)


class GivesASession(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, session="s", **kwargs)


class PassesOn(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


def test_what_a_tasks_own_call_supplies_need_not_be_given():
    def load(x: int, session: str) -> None: ...

    schema = _schema(load, base=GivesASession)
    assert schema.is_valid({"x": 1})
    assert not schema.is_valid({"x": "one"})
    strict = _schema(load, base=PassesOn)
    assert not strict.is_valid({"x": 1})
    assert strict.is_valid({"x": 1, "session": "s"})
