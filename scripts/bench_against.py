"""Measures what a change costs: it runs this tree and an older commit in turns.

    scripts/bench_against.py COMMIT [drain] [http] [--rounds 5] [--number 60000] [--only NAME]

The commit gets a worktree and an environment of its own under `.bench-against/`, kept for the next time. Each round
runs both, and the one that was first is second in the next round; a row's ratio is that of two figures of the same
round.
"""

from __future__ import annotations

import argparse
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
    "http": ("single submit", "single submit, Idempotency-Key", "status", "list, first page", "batch submit of 1,000"),
}
#: A row fails the gate if it loses more than this share.
MOST_LOST = 0.02

#: Runs one benchmark of the tree in which it is started, with exactly the wanted rows; older trees have no option for
#: that.
_DRIVER = """
import importlib, json, sys
from benchmarks import options
from benchmarks.bed import make_bed
from ledgerq_shared.logging import configure
from ledgerq_shared.settings import LogSettings

name, number, *wanted = sys.argv[1:]
class Exactly(options.Options):
    def wants(self, name):
        return name in self.only
module = importlib.import_module(f"benchmarks.{name}")
if name == "drain":
    module.BASE = wanted[0]  # no peer
configure(LogSettings(log_level="error"), service="bench")
with make_bed() as bed:
    module.run(bed, Exactly(1, int(number), tuple(wanted)))
"""


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


def _measure(tree: Path, name: str, number: int, rows: tuple[str, ...]) -> dict[str, float]:
    """One round of one benchmark in one tree: the figure of each row."""
    command = [str(tree / ".venv" / "bin" / "python"), "-c", _DRIVER, name, str(number), *rows]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench-against: {name} failed in {tree}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = json.loads((tree / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
    return {row["name"]: row["rounds"][-1] for row in found["rows"] if row["rounds"] and row["name"] in rows}


def _show(name: str, base: list[dict[str, float]], current: list[dict[str, float]]) -> bool:
    """Print the table; whether no row has lost too much."""
    is_good = True
    print(f"\n{name + ', a second':34} {'base':>10} {'current':>10}  ratio (least–most)")
    for row in base[0]:
        pairs = [(old[row], new[row]) for old, new in zip(base, current, strict=True) if row in old and row in new]
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
    trees = (_tree_of(asked.base), ROOT)
    found: dict[str, tuple[list[dict[str, float]], list[dict[str, float]]]] = {name: ([], []) for name in chosen}
    for number in range(max(1, asked.rounds)):
        for name, rows in chosen.items():
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                found[name][which].append(_measure(trees[which], name, asked.number, rows))
        print(f"round {number + 1} of {asked.rounds}", flush=True)
    verdicts = [_show(name, *figures) for name, figures in found.items()]
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
