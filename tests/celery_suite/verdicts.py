"""What the two runs say of each test, held against what is known."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

_KNOWN = Path(__file__).parent / "known.toml"


@dataclass(frozen=True)
class Known:
    """Tests that pass with a stock worker, and not with ours: file::test -> why."""

    reasons: dict[str, str]
    #: Tests that Celery's suite fails with a worker in another process now and then, whoever's it is.
    unsteady: frozenset[str]

    @classmethod
    def read(cls) -> Known:
        """From known.toml."""
        found = tomllib.loads(_KNOWN.read_text())
        return cls(found.get("differs", {}), frozenset(found.get("unsteady", ())))


def outcomes(report: Path) -> dict[str, str]:
    """file::test -> green, or what was wrong, in one line; "" for a skipped one. From pytest's report."""
    found: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  (our own pytest wrote it)
        classes = case.get("classname", "").removeprefix("t.integration.").split(".")
        name = "::".join([f"{classes[0]}.py", *classes[1:], case.get("name", "")])
        wrong = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        if wrong is not None:
            found[name] = " ".join((wrong.get("message") or "it failed").split())[:160]
        else:
            found[name] = "" if case.find("skipped") is not None else "green"
    return found


@dataclass(frozen=True)
class Comparison:
    """Of two runs of the same tests."""

    stock: dict[str, str]
    ours: dict[str, str]
    known: Known

    @property
    def applicable(self) -> list[str]:
        """The tests that a stock worker passes as a process of its own: what LedgerQ's has to pass."""
        return [name for name, outcome in self.stock.items() if outcome == "green"]

    def unexplained(self) -> list[str]:
        """Differences that nobody has explained, a line each."""
        return [
            f"{name}: {self.ours.get(name, 'it did not run')}"
            for name in self.applicable
            if self.ours.get(name) != "green" and name not in self.known.reasons and name not in self.known.unsteady
        ]

    def outdated(self) -> list[str]:
        """Tests that are known not to pass, and do."""
        return [name for name in self.known.reasons if self.ours.get(name) == "green"]

    def table(self) -> Iterator[str]:
        """As Markdown, by file."""
        applicable = Counter(name.partition("::")[0] for name in self.applicable)
        ours = Counter(name.partition("::")[0] for name in self.applicable if self.ours.get(name) == "green")
        yield "| file | applicable: a stock worker passes | LedgerQ passes |"
        yield "| --- | ---: | ---: |"
        for file, number in sorted(applicable.items()):
            yield f"| {file} | {number} | {ours[file]} |"
        yield f"| all | {applicable.total()} | {ours.total()} |"
