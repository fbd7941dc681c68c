"""Read what others are still writing."""

from __future__ import annotations


def whole_lines(text: str) -> list[str]:
    """The lines that have been written to their end; a reader may come in the middle of a write."""
    return [line.rstrip("\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]
