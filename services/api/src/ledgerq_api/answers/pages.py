"""Pages have a bound in bytes besides the one in rows: the tags and log lines of a thousand rows could be many
megabytes, which stay in memory until the client has read them.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ledgerq_api.requests.lean import encode

#: About how many bytes the rows of one page may have. A page always has one row, however large it is.
MOST_BYTES = 4 * 1024 * 1024


def fitting(rows: Sequence[Struct]) -> int:
    """How many of the first rows fit into a page."""
    if len(encode(rows)) <= MOST_BYTES:
        return len(rows)
    size = 0
    for index, row in enumerate(rows):
        size += len(encode(row)) + 1
        if size > MOST_BYTES:
            return max(index, 1)
    return len(rows)
