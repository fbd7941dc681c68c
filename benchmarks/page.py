"""`--page`: the tables of this run go into docs/reference/performance.md, between markers; the words around them stay."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from benchmarks.bed import ROOT
from benchmarks.report import RESULTS, Row, table

PAGE = ROOT / "docs" / "reference" / "performance.md"


def write(names: Sequence[str]) -> None:
    """Put the tables of these benchmarks in.

    Raises:
        ValueError: the page has no place for one.
    """
    text = PAGE.read_text("utf-8")
    for name in names:
        text, count = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda found, name=name: f"{found[1]}{_section(name)}{found[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
        if not count:
            raise ValueError(f"{PAGE.name} has no place marked <!-- {name} -->")
    PAGE.write_text(text, "utf-8")


def _section(name: str) -> str:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    rows = [Row(**row) for row in found["rows"]]
    machine, base = found["machine"], found["base"]
    columns = table(rows, found["unit"], base)
    lines = [_line(list(columns)), _line(["---"] * len(columns))]
    lines += [_line(cells) for cells in zip(*columns.values(), strict=True)]
    rounds = max((len(row.rounds) for row in rows), default=0)
    said = (
        f"{found['at']}, {machine['cores']} cores, Python {machine['python']}, rounds: {rounds}, "
        f"load average at the end {found['load'][0]:.1f}."
    )
    return "\n" + "\n".join(lines) + f"\n\n{said}\n\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
