"""Checks docs/model/ledger.pml with SPIN: first exhaustively, and then with each protection taken out, which the check
must notice.

    scripts/check_model.py everything (two minutes) scripts/check_model.py NAME … only these protections, each with the
    steps that lead to the fault

Needs `spin` and a C compiler; without them it says SKIPPED and succeeds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).parent.parent / "docs" / "model" / "ledger.pml"
#: ``(tasks, disturbances)``: all histories of these sizes are tried.
SIZES = ((1, 2), (2, 1))
#: How much memory `pan` may use, in MiB, and the longest history that it may look at, in steps.
MEMORY, DEPTH = 950, 1_000_000
PROCESSES = 2


@dataclass(frozen=True)
class Size:
    """How much of the model is checked."""

    tasks: int
    disturbances: int

    def __str__(self) -> str:
        return (
            f"{self.tasks} task{'s' * (self.tasks > 1)}, {self.disturbances} disturbance{'s' * (self.disturbances > 1)}"
        )


@dataclass(frozen=True)
class Found:
    """What one run of the checker found. ``error``: its message; None: no history is wrong."""

    states: int
    depth: int
    seconds: float
    error: str | None


class Checker:
    """SPIN's programs for the model, built once for each size and kind of check."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, size: Size, kind: str, name: str = "") -> Path:
        """The folder of the program that looks for violations of ``SAFETY`` (a state that must never be) or for ``NP``
        (a history that goes on for ever without progress).
        """
        folder = self._folder / f"{size.tasks}-{size.disturbances}-{kind}-{name}"
        if (folder / "pan").exists():
            return folder
        folder.mkdir()
        sizes = [f"-DTASKS={size.tasks}", f"-DDISTURBANCES={size.disturbances}"]
        _run(["spin", *sizes, "-a", str(MODEL)], folder)
        _run(["cc", "-O2", "-w", f"-D{kind}", "-DCOLLAPSE", f"-DMEMLIM={MEMORY}", "-o", "pan", "pan.c"], folder)
        return folder

    @staticmethod
    def check(folder: Path, *, cycles: bool = False, without: int = 0) -> Found:
        """Look at all histories, or until one is wrong."""
        begun = time.monotonic()
        command = ["./pan", f"-m{DEPTH}", "-n", "-w24", *(["-l"] if cycles else [])]
        said = _run(command, folder, {"WITHOUT": str(without)})
        states = re.search(r"(\d+) states, stored", said)
        depth = re.search(r"depth reached (\d+)", said)
        if not states or not depth:
            raise SystemExit(said)
        wrong = re.search(r"^pan:\d+: (.*)", said, re.MULTILINE) or re.search(r"(Search not completed)", said)
        error = wrong.group(1) if wrong else None
        return Found(int(states.group(1)), int(depth.group(1)), time.monotonic() - begun, error)

    @staticmethod
    def steps(folder: Path) -> str:
        """The history that was found to be wrong, with a line for each step."""
        source = MODEL.read_text("utf-8").splitlines()
        said = _run(["./pan", "-r", f"{MODEL.name}.trail"], folder)
        lines = []
        for process, number, text in re.findall(r"proc +\d+ \((\w+)\) \S+:(\d+) \(state \d+\)\s+\[(.*)\]", said):
            if "goto" not in text:
                lines.append(f"  {process:12} {source[int(number) - 1].strip() if 'D_STEP' in text else text}"[:150])
        return "\n".join(lines)


def _run(command: list[str], folder: Path, variables: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **(variables or {})}
    )
    if done.returncode and command[0] != "./pan":
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def protections() -> dict[str, tuple[int, Size]]:
    """The protections that can be taken out of the model: the number there, and the smallest size that shows what the
    protection is good for.
    """
    found = {}
    for name, number, hint in re.findall(
        r"^#define ([a-z_]+) (\d+)(?: /\* (.*) \*/)?$", MODEL.read_text("utf-8"), re.MULTILINE
    ):
        found[name] = (int(number), Size(2 if "2 tasks" in hint else 1, 2 if "2 disturbances" in hint else 1))
    return found


def _check_all(checker: Checker, pool: ThreadPoolExecutor) -> bool:
    jobs = [(Size(*size), kind) for size in SIZES for kind in ("SAFETY", "NP")]
    results = pool.map(lambda job: checker.check(checker.build(*job), cycles=job[1] == "NP"), jobs)
    is_sound = True
    print(f"{'checked exhaustively':24} {'for':32} {'states':>10} {'depth':>6} {'time':>7}  verdict")
    for (size, kind), found in zip(jobs, results, strict=True):
        what = "what must never be; standstills" if kind == "SAFETY" else "what goes on for ever"
        verdict = "holds" if found.error is None else f"VIOLATED: {found.error}"
        print(f"{size!s:24} {what:32} {found.states:10,} {found.depth:6} {found.seconds:6.1f}s  {verdict}", flush=True)
        is_sound = is_sound and found.error is None
    return is_sound


def _check_without(checker: Checker, pool: ThreadPoolExecutor, names: list[str], *, with_steps: bool) -> bool:
    wanted = {name: protections()[name] for name in names}
    built = {size: checker.build(size, "SAFETY") for size in {size for _, size in wanted.values()} if not with_steps}

    def look(name: str) -> tuple[Found, str]:
        number, size = wanted[name]
        if not with_steps:  # each leaves its trail in the folder, so they share a folder only if nobody reads the trail
            return checker.check(built[size], without=number), ""
        folder = checker.build(size, "SAFETY", name)
        return checker.check(folder, without=number), checker.steps(folder)

    print(f"\n{'taken out':56} {'states':>10} {'time':>7}  verdict")
    is_sound = True
    for name, (found, steps) in zip(wanted, pool.map(look, wanted), strict=True):
        verdict = "noticed" if found.error else "NOT NOTICED"
        print(f"{name:56} {found.states:10,} {found.seconds:6.1f}s  {verdict}", flush=True)
        if steps:
            print(f"{steps}\n  → {found.error}")
        is_sound = is_sound and found.error is not None
    return is_sound


PROPERTIES = """
every task is recorded at most once, and stands in exactly one place until then
no task whose worker is alive is started twice; nobody who could renew its lease is declared dead
code that must not run twice begins once
cancel is a fact: what was cancelled never waits for another run, and what was answered REVOKED never begins
only what was superseded is refused
every accepted task ends: no standstill with a task unfinished, and nothing that goes on for ever
""".strip().splitlines()


def main() -> None:
    """Check, and print the result."""
    for program in ("spin", "cc"):
        if shutil.which(program) is None:
            print(f"SKIPPED: {program} is not on PATH (apt install spin gcc libc6-dev)")
            return
    if unknown := [name for name in sys.argv[1:] if name not in protections()]:
        raise SystemExit(f"check_model: no protection {unknown[0]!r}: there are {', '.join(protections())}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(PROCESSES) as pool:
        checker = Checker(Path(name))
        if sys.argv[1:]:
            is_sound = _check_without(checker, pool, sys.argv[1:], with_steps=True)
        else:
            is_sound = _check_all(checker, pool)
            if is_sound:
                print("\nso, in every history of these sizes:", *PROPERTIES, sep="\n  holds: ")
            is_sound = _check_without(checker, pool, list(protections()), with_steps=False) and is_sound
    print(f"\n{time.monotonic() - begun:.0f} s")
    sys.exit(0 if is_sound else 1)


if __name__ == "__main__":
    main()
