"""Rounds become a table for people and JSON for machines."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One line: figures of each round, and what could not be measured."""

    name: str
    #: The figure of each round, in `unit` of the table.
    rounds: list[float] = field(default_factory=list)
    #: Figure ÷ the base's figure of the same round.
    ratios: list[float] = field(default_factory=list)
    cpu: list[Mapping[str, float]] = field(default_factory=list)
    notes: str = ""

    def middle(self) -> str:
        """The median."""
        if not self.rounds:
            return "not run"
        median = statistics.median(self.rounds)
        return f"{median:,.0f}" if median >= 10_000 else f"{median:,.5g}"

    def ratio(self) -> str:
        """The median ratio with its spread."""
        if not self.ratios:
            return ""
        return f"{statistics.median(self.ratios):.2f} ({min(self.ratios):.2f}–{max(self.ratios):.2f})"

    def microseconds(self) -> str:
        """CPU a task by process, medians."""
        names = self.cpu[0].keys() if self.cpu else ()
        middles = {name: statistics.median(spent[name] for spent in self.cpu) for name in names}
        total = f"{sum(middles.values()):,.0f} = " if middles else ""
        return total + " + ".join(f"{name} {value:,.0f}" for name, value in middles.items() if value >= 0.5)


def table(rows: Sequence[Row], unit: str, base: str) -> dict[str, list[str]]:
    """Head -> cells of each column that says something."""
    columns = {
        "": [row.name for row in rows],
        unit: [row.middle() for row in rows],
        f"× {base}": [row.ratio() for row in rows],
        "CPU µs each": [row.microseconds() for row in rows],
        "notes": [row.notes for row in rows],
    }
    return {head: cells for head, cells in columns.items() if any(cells)}


def show(title: str, unit: str, base: str, rows: Sequence[Row]) -> None:
    """Print the table."""
    columns = table(rows, unit, base)
    shown = Table(title=title)
    for name in columns:
        shown.add_column(name, justify="left" if name in {"", "notes", "CPU µs each"} else "right")
    for cells in zip(*columns.values(), strict=True):
        shown.add_row(*cells)
    Console(width=None if os.isatty(1) else 170).print(shown)


def write(name: str, unit: str, base: str, rows: Sequence[Row]) -> None:
    """Write `results/<name>.json`."""
    RESULTS.mkdir(exist_ok=True)
    found: dict[str, Any] = {
        "benchmark": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "load": os.getloadavg(),
        "unit": unit,
        "base": base,
        "rows": [vars(row) for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def against(base: Row, rows: Sequence[Row]) -> None:
    """Fill in ratios; every row has as many rounds as the base."""
    for row in rows:
        row.ratios = [round(one / other, 3) for one, other in zip(row.rounds, base.rounds, strict=False)]
