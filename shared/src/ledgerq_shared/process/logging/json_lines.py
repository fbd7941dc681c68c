"""How a line of a JSON log looks."""

from __future__ import annotations

import json
from typing import TextIO

from structlog.typing import EventDict

from ledgerq_shared.process import output

#: What some readers take for the end of a line, although JSON allows it inside of one.
_BREAKS = str.maketrans({character: f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"})


class JsonLines:
    """Renders a line as JSON that a person can read, too: first what happened, text as it is."""

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=repr).encode

    def __call__(self, _logger: object, method: str, event: EventDict) -> str:
        """As structlog calls its last processor."""
        fields = {"event": event.pop("event", None), "level": event.pop("level", method), **event}
        try:
            line = self._encode(fields)
        except (TypeError, ValueError, RecursionError):  # NaN, a key that is no text, a list that contains itself
            line = self._encode({str(name): _plain_value(value) for name, value in fields.items()})
        return line if line.isascii() else line.translate(_BREAKS)


def in_utf8(stream: TextIO) -> None:
    """JSON is UTF-8, whatever the locale is; half a character of UTF-16 is written as JSON's escape for it."""
    if output.of(stream) is not None:
        output.plain(stream).reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[attr-defined]


def _plain_value(value: object) -> object:
    return value if value is None or isinstance(value, (str, bool, int)) else repr(value)
