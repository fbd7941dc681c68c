"""JSON has one kind of number: for JSON Schema and many clients' languages, `6.0` is the integer 6.

msgspec distinguishes integers and floats, which makes its decoders fast. So a body is decoded as usual, and is decoded
once more only if a number was refused because it is a float.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

Body = TypeVar("Body", bound=Struct)

#: A part of msgspec's message about a float that it did not expect.
_REFUSED = "got `float`"


def is_about_floats(error: Exception) -> bool:
    """Whether a body was refused because of a float where an integer is expected."""
    return isinstance(error, msgspec.ValidationError) and _REFUSED in str(error)


def lenient(kind: type[Body]) -> type[Body]:
    """The same type, but integers may be floats without a fraction; see :func:`exact`."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    changed = [
        (name, other, fields[name].default) for name, hint in hints.items() if (other := _as_float(hint)) is not hint
    ]
    made: Any = msgspec.defstruct(kind.__name__, changed, bases=(kind,), forbid_unknown_fields=True, frozen=True)
    return cast("type[Body]", made)


def exact(kind: type[Body], body: Body) -> Body:
    """Turns a body of the type that :func:`lenient` returns into one of ``kind``."""
    names = _integers_of(kind)
    values: dict[str, Any] = {name: getattr(body, name) for name in kind.__struct_fields__}
    return kind(**{name: int(each) if name in names and type(each) is float else each for name, each in values.items()})


@functools.cache
def _integers_of(kind: type[Struct]) -> frozenset[str]:
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _as_float(hint) is not hint)


def decoder_of(kind: type[Body]) -> Callable[[bytes], Body]:
    """A decoder for bodies that the usual decoder of ``kind`` has refused because of floats."""
    decode = msgspec.json.Decoder(lenient(kind)).decode
    return lambda body: exact(kind, decode(body))


def _as_float(hint: Any) -> Any:
    """The hint with floats for integers; the hint itself if it has no integer."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        others = tuple(_as_float(part) for part in parts)
        return hint if all(a is b for a, b in zip(parts, others, strict=True)) else Union[others]  # noqa: UP007
    if origin is Annotated and parts[0] is int:
        return Annotated[(float, *parts[1:], Meta(multiple_of=1))]
    return hint
