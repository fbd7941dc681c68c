"""Reads the messages that Celery's producers usually write, protocol 2 in plain JSON, in a quarter of kombu's time.

Their arguments stay the text that they are. Whatever else is in a list is left to kombu, which also says what is wrong
with it.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Literal, NamedTuple

from msgspec import MsgspecError, Raw, Struct
from msgspec.json import Decoder, decode, encode

from ledgerq_worker.slot.encoding import MAX_VALUE_BYTES

#: Kombu's mark of a value that JSON does not have (a date, a UUID).
_TYPED = b"__type__"
#: An escaped character.
_ESCAPE = b"\\u"


class UsualMessage(NamedTuple):
    """A message in protocol 2."""

    headers: dict[str, Any]
    #: 0 if the producer gave none.
    priority: int | None
    delivery_tag: str
    #: The positional arguments as a JSON array, or None if there are none; the others as a JSON object.
    arguments: tuple[str | None, str]
    #: Callbacks, errbacks, chain, chord.
    embed: dict[str, Any]


class _Properties(Struct):
    delivery_tag: str
    body_encoding: Literal["base64"]
    priority: int | None = None


class _Element(Struct, rename={"content_type": "content-type", "content_encoding": "content-encoding"}):
    body: str
    content_type: Literal["application/json"]
    content_encoding: Literal["utf-8"]
    headers: dict[str, Any]
    properties: _Properties


_element = Decoder(_Element).decode
_body = Decoder(tuple[Raw, Raw, dict[str, Any]]).decode


def read_usual(raw: bytes) -> UsualMessage | None:
    """The message in an element of a list; None: it is not of the usual form."""
    if _TYPED in raw:
        return None
    try:
        element = _element(raw)
        content = b64decode(element.body)
        *texts, embed = _body(content)
        if _ESCAPE in content:  # the ledger keeps characters, which may be half as long
            texts = [Raw(encode(decode(text))) for text in texts]
        args, kwargs = (str(text, "utf-8") for text in texts)
    except (MsgspecError, ValueError, ArithmeticError, RecursionError):
        return None
    headers = element.headers
    if _TYPED in content or sum(map(len, texts)) > MAX_VALUE_BYTES or "compression" in headers:
        return None
    if not (args.startswith("[") and kwargs.startswith("{") and _is_text(headers, "task") and _is_text(headers, "id")):
        return None
    properties = element.properties
    arguments = (None if args == "[]" else args), kwargs
    return UsualMessage(headers, properties.priority, properties.delivery_tag, arguments, embed)


def _is_text(headers: dict[str, Any], name: str) -> bool:
    value = headers.get(name)
    return isinstance(value, str) and value != ""
