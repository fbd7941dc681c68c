"""The JSON Schema of a task's keyword arguments, from its signature.

What cannot be understood is allowed: a hint that does not resolve, or a type that JSON Schema cannot express, must not
keep a task from being submitted. The worker checks the arguments once more.
"""

import inspect
import json
import types
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Optional, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from ledgerq_worker.catalogue.wrappers import calls_as_given, deciding_layer, is_wrapper

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_EXTRA = "**"  # stands for what **kwargs takes; no parameter can have this name


def parameters_schema(run: Callable[..., Any], call: types.MethodType | None = None) -> dict[str, Any]:
    """JSON Schema (2020-12) of an object that holds the keyword arguments of `run`. Never raises.

    A decorator around it, or a `__call__` of the task's own, may supply arguments or take further ones. Unless it
    visibly passes everything on unchanged, the parameters of the function behind it are described but not required.

    Args:
        call: the task's own `__call__`; None: Celery's.

        `self` of a bound method is not one of them; `*args` cannot be given by name and are left out; `**kwargs` allow
            further properties; a positional-only parameter is described by a schema that no value fits. Equal
    signatures give equal JSON text.
    """
    schema: dict[str, Any] = {"$schema": DIALECT, "type": "object"}
    try:
        layer = deciding_layer(run) if call is None or calls_as_given(call) else call
        own = list(inspect.signature(layer, follow_wrapped=False).parameters.values())
        is_opaque = layer is call or is_wrapper(layer)
        behind = _behind(own, run) if is_opaque else []
    except (TypeError, ValueError):  # the function is written in C and has no signature
        return schema
    parameters = [*own, *behind]
    adapters = _adapters(parameters, _hints(run))
    described, definitions = _generated(adapters)
    if is_opaque:  # the decorator perhaps makes the whole object from something else
        described = {name: {} if "$ref" in json.dumps(hint) else hint for name, hint in described.items()}
    properties = {p.name: _property(p, described.get(p.name, {})) for p in parameters if not _is_variadic(p)}
    schema["properties"] = properties
    required = [p.name for p in own if not _is_variadic(p) and p.default is p.empty]
    if required:
        schema["required"] = required
    takes_more = any(p.kind is p.VAR_KEYWORD for p in own)
    extra = None if is_opaque else described.get(_EXTRA)
    schema["additionalProperties"] = (extra or True) if takes_more else False
    if definitions:
        schema["$defs"] = definitions
    return schema


def _behind(own: Iterable[inspect.Parameter], run: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters that ``**kwargs`` among a wrapper's ``own`` parameters may stand for: those of the function behind
    it.
    """
    if not any(p.kind is p.VAR_KEYWORD for p in own):
        return []
    names = {p.name for p in own}
    return [p for p in inspect.signature(run).parameters.values() if p.kind in _BY_NAME and p.name not in names]


def plain_function(run: Callable[..., Any]) -> Callable[..., Any]:
    """The function as its author wrote it, below Celery's wrappers and the binding to the task."""
    unwrapped = inspect.unwrap(run)
    return unwrapped.__func__ if isinstance(unwrapped, types.MethodType) else unwrapped


def _is_variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _hints(run: Callable[..., Any]) -> dict[str, Any]:
    """The hints that resolve; each is resolved by itself, because one unknown name must not cost the others."""
    function = plain_function(run)
    written = getattr(function, "__annotations__", None) or {}
    scope = getattr(function, "__globals__", {})
    resolved: dict[str, Any] = {}
    for name, annotation in written.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        with suppress(Exception):  # a hint is arbitrary code
            resolved |= get_type_hints(holder, globalns=scope, include_extras=True)
    return resolved


def _adapters(parameters: Iterable[inspect.Parameter], hints: dict[str, Any]) -> dict[str, TypeAdapter[Any]]:
    found = {}
    for parameter in parameters:
        if parameter.name not in hints or not (parameter.kind in _BY_NAME or parameter.kind is parameter.VAR_KEYWORD):
            continue
        hint = hints[parameter.name]
        if parameter.default is None:
            hint = Optional[hint]  # noqa: UP045 - a hint need not have an `|`
        adapter = _adapter(hint)
        if adapter is not None:
            found[_EXTRA if parameter.kind is parameter.VAR_KEYWORD else parameter.name] = adapter
    return found


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    """An adapter whose schema can be made; None for types that only exist inside Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapter: TypeAdapter[Any] = TypeAdapter(hint)
            adapter.json_schema()
    except Exception:
        return None
    return adapter


def _generated(adapters: dict[str, TypeAdapter[Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of each parameter and the definitions that they share."""
    if not adapters:
        return {}, {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # defaults of a model that JSON cannot express: they are left out
            schemas, shared = TypeAdapter.json_schemas([(name, "validation", a) for name, a in adapters.items()])
    except Exception:
        return {}, {}
    return {name: schema for (name, _), schema in schemas.items()}, shared.get("$defs", {})


def _property(parameter: inspect.Parameter, described: dict[str, Any]) -> dict[str, Any]:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return {
            "not": {},
            "description": "positional-only in the task's signature: it cannot be given by name",
        }
    if parameter.default is parameter.empty:
        return described
    try:
        return described | {"default": _as_json(parameter.default)}
    except (TypeError, ValueError):  # not JSON; it is still optional
        return described


def _as_json(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)  # the order of a set differs from process to process
    plain = to_jsonable_python(value)
    json.dumps(plain, allow_nan=False)
    return plain
