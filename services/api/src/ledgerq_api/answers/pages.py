"""Pages have a bound in bytes besides the one in rows: the tags and log lines of a thousand rows could be many
megabytes, which stay in memory until the client has read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

from msgspec import Raw, Struct

from ledgerq_api.requests.lean import encode

T = TypeVar("T", bound=Struct)

#: About how many bytes the rows of one page may have. A page always has one row, however large it is.
MOST_BYTES = 4 * 1024 * 1024


def fitting(rows: list[T]) -> tuple[int, list[T]]:
    """How many of the first rows fit into a page, and these rows for the answer.

    They are encoded to be measured, so the answer gets their JSON text in place of the list: an encoder copies it.
    """
    text = encode(rows)
    if len(text) > MOST_BYTES:
        rows = rows[: _first(rows)]
        text = encode(rows)
    return len(rows), cast("list[T]", Raw(text))


def _first(rows: Sequence[Struct]) -> int:
    size = 0
    for index, row in enumerate(rows):
        size += len(encode(row)) + 1
        if size > MOST_BYTES:
            return max(index, 1)
    return len(rows)
