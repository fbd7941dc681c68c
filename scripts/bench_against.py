"""Measures what a change costs: it runs this tree and an older commit in turns.

    scripts/bench_against.py COMMIT [drain] [http] [--rounds 5] [--number 60000] [--only NAME]

The commit gets a worktree and an environment of its own under `.bench-against/`, kept for the next time. Both have
their stores up all the time, and each row is measured in one tree and at once in the other, because the speed of a
shared machine changes within seconds; the tree that was first is second in the next round. A row's ratio is the median
of the ratios of such pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".bench-against"
#: The rows of our own, which the gate looks at unless others are named.
ROWS = {
    "drain": ("LedgerQ",),
    "http": (
        "single submit",
        "single submit, Idempotency-Key",
        "status",
        "list, first page",
        "batch submit of 1,000",
    ),
}
#: A row fails the gate if it loses more than this share.
MOST_LOST = 0.02

#: Runs single rows of the benchmarks of the tree in which it is started, as they are asked for; older trees have no
#: option for that. Older trees also have 20,000 Idempotency-Keys, so a row has to end before they are used up: an answer
#: to a repeated key is another row. A list has a full page. The peers are measured by `make bench` alone.
_DRIVER = """
import importlib, json, sys
from benchmarks import http, options, report
from benchmarks.bed import make_bed
from benchmarks.contenders import LedgerQ
from tests.support.http import request
try:
    from ledgerq_shared.process.logging import configure
except ImportError:  # an older tree
    from ledgerq_shared.logging import configure
from ledgerq_shared.settings import LogSettings

class Exactly(options.Options):
    def wants(self, name):
        return name in self.only

answers, sys.stdout = sys.stdout, sys.stderr
shown = []
report.write = lambda *args: shown.extend(args[-1])
report.show = lambda *args: None
http._SECONDS = 2.0
measure_any = http._measure

def measure(bed, row, server, requests, **how):
    if row.name.startswith("list"):
        request("POST", f"{server.url}/tasks/submit/batch", {"tasks": [http._BODY] * 100})
    if not row.name.startswith("bare"):
        measure_any(bed, row, server, requests, **how)

http._measure = measure
configure(LogSettings(log_level="error"), service="bench")
with make_bed() as bed:
    for line in sys.stdin:
        name, number, row = json.loads(line)
        module = importlib.import_module(f"benchmarks.{name}")
        if name == "drain":
            module.BASE = row
            module.contenders = lambda: [LedgerQ()]
        shown.clear()
        module.run(bed, Exactly(1, number, (row,)))
        figures = [one.rounds[-1] for one in shown if one.name == row and one.rounds]
        print(json.dumps(figures), file=answers, flush=True)
"""


class Tree:
    """One tree with its stores up."""

    def __init__(self, path: Path) -> None:
        command = [path / ".venv" / "bin" / "python", "-c", _DRIVER]
        self._driver = subprocess.Popen(command, cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._path = path

    def measure(self, name: str, number: int, row: str) -> float | None:
        """The figure of one row; None: this tree does not have the row."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._driver.stdin.write(json.dumps([name, number, row]) + "\n")
            self._driver.stdin.flush()
        answer = self._driver.stdout.readline()
        if not answer:
            raise SystemExit(f"bench-against: {row} failed in {self._path}; its output is above")
        figures: list[float] = json.loads(answer)
        return figures[-1] if figures else None

    def close(self) -> None:
        """Stop the stores."""
        self._driver.communicate()


def _tree_of(commit: str) -> Path:
    """The commit's worktree with an environment in which its benchmarks run."""
    known = _said(["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"])
    if not known:
        raise SystemExit(f"bench-against: this repository has no commit {commit!r}; name one: BASE=HEAD~1")
    tree = KEPT / known[:12]
    if not (tree / "Makefile").exists():
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
        subprocess.run(["git", "worktree", "add", "--detach", "--force", str(tree), known], cwd=ROOT, check=True)
    subprocess.run(["make", "-C", str(tree), "--no-print-directory", ".venv/.development-installed"], check=True)
    return tree


def _said(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _show(name: str, found: dict[str, list[tuple[float, float]]]) -> bool:
    """Print the table; whether no row has lost too much."""
    is_good = True
    print(f"\n{name + ', a second':34} {'base':>10} {'current':>10}  ratio (least–most)")
    for row, pairs in found.items():
        if not pairs:
            print(f"{row:34} not in both trees")
            continue
        ratios = [new / old for old, new in pairs]
        middle = statistics.median(ratios)
        old, new = (statistics.median(figures) for figures in zip(*pairs, strict=True))
        verdict = "" if middle >= 1 - MOST_LOST else f"  loses more than {MOST_LOST:.0%}"
        print(f"{row:34} {old:10,.0f} {new:10,.0f}  {middle:.3f} ({min(ratios):.3f}–{max(ratios):.3f}){verdict}")
        is_good = is_good and not verdict
    return is_good


def main() -> None:
    """Measure and compare; exit code 1: a row has lost more than it may."""
    parser = argparse.ArgumentParser(prog="make bench-against")
    parser.add_argument("base", help="the older commit")
    parser.add_argument("benchmark", nargs="*", help=f"{', '.join(ROWS)}; none: both")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--number", type=int, default=60_000, help="tasks of the backlog that is drained")
    parser.add_argument("--only", action="append", default=[], help="rows whose name contains this")
    asked = parser.parse_args()
    chosen: dict[str, tuple[str, ...]] = {}
    for name in asked.benchmark or ROWS:
        if name not in ROWS:
            parser.error(f"no benchmark {name!r}: there are {', '.join(ROWS)}")
        rows = tuple(row for row in ROWS[name] if not asked.only or any(part in row for part in asked.only))
        chosen |= {name: rows} if rows else {}
    trees = Tree(_tree_of(asked.base)), Tree(ROOT)
    found: dict[str, dict[str, list[tuple[float, float]]]] = {
        name: {row: [] for row in rows} for name, rows in chosen.items()
    }
    try:
        for number in range(max(1, asked.rounds)):
            for name, rows in chosen.items():
                for row in rows:
                    turns = (0, 1) if number % 2 == 0 else (1, 0)
                    figures = {which: trees[which].measure(name, asked.number, row) for which in turns}
                    if (old := figures[0]) is not None and (new := figures[1]) is not None:
                        found[name][row].append((old, new))
            print(f"round {number + 1} of {asked.rounds}", flush=True)
    finally:
        for tree in trees:
            tree.close()
    verdicts = [_show(name, rows) for name, rows in found.items()]
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
