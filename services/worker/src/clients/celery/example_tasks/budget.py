"""Keeps a task's result below the size that the ledger accepts."""

import json
from typing import Any

# Results may have 1 MiB; the rest is for the fields around the pages.
PAGE_BYTES = 900 * 1024


class Budget:
    """Takes entries until their JSON would be longer than `limit` bytes; after that it refuses all."""

    def __init__(self, limit: int = PAGE_BYTES) -> None:
        self.entries: list[dict[str, Any]] = []
        self.truncated = False
        self._left = limit

    def add(self, entry: dict[str, Any]) -> None:
        """Keep `entry` if it fits, else note that the result is incomplete."""
        # ASCII-escaped JSON is the longest form in which anybody may store it; 2 is for ", ".
        size = len(json.dumps(entry)) + 2
        if self.truncated or size > self._left:
            self.truncated = True
            return
        self._left -= size
        self.entries.append(entry)


def storable(text: str) -> str:
    """`text` without what PostgreSQL's JSON or UTF-8 cannot hold: NULs and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
