"""JSON has one kind of number: `6.0` is the integer 6, as JSON Schema and many clients' languages see it.

msgspec tells the two apart, which makes its decoders quick. So a body is decoded as usual, and once more only if a number
was refused for having a fraction.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

Body = TypeVar("Body", bound=Struct)

#: Part of what msgspec says of a number that it did not expect.
_REFUSED = "got `float`"


def is_about_floats(error: Exception) -> bool:
    """Whether a body was refused for a number with a fraction where an integer is expected."""
    return isinstance(error, msgspec.ValidationError) and _REFUSED in str(error)


def lenient(kind: type[Body]) -> type[Body]:
    """The same body, but its integers are floats without a fraction; see :func:`exact`."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    changed = [
        (name, other, fields[name].default) for name, hint in hints.items() if (other := _as_float(hint)) is not hint
    ]
    made: Any = msgspec.defstruct(kind.__name__, changed, bases=(kind,), forbid_unknown_fields=True, frozen=True)
    return cast("type[Body]", made)


def exact(kind: type[Body], body: Body) -> Body:
    """What came as :func:`lenient` has it, as ``kind`` has it."""
    names = _integers_of(kind)
    values: dict[str, Any] = {name: getattr(body, name) for name in kind.__struct_fields__}
    return kind(**{name: int(each) if name in names and type(each) is float else each for name, each in values.items()})


@functools.cache
def _integers_of(kind: type[Struct]) -> frozenset[str]:
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _as_float(hint) is not hint)


def decoder_of(kind: type[Body]) -> Callable[[bytes], Body]:
    """Decodes what the usual decoder of ``kind`` has refused for its floats."""
    decode = msgspec.json.Decoder(lenient(kind)).decode
    return lambda body: exact(kind, decode(body))


def _as_float(hint: Any) -> Any:
    """The hint itself, where there is no integer in it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        others = tuple(_as_float(part) for part in parts)
        return hint if all(a is b for a, b in zip(parts, others, strict=True)) else Union[others]  # noqa: UP007
    if origin is Annotated and parts[0] is int:
        return Annotated[(float, *parts[1:], Meta(multiple_of=1))]
    return hint
