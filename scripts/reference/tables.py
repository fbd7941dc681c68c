"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a blank line before and after it; what would break a cell is escaped."""
    lines = [_line(titles), _line(["---"] * len(titles)), *(_line([_cell(cell) for cell in row]) for row in rows)]
    return "\n" + "\n".join(lines) + "\n\n"


def first_line(doc: str | None) -> str:
    """The first line of a doc string."""
    return (doc or "").strip().splitlines()[0]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
