"""``python -m tests.mutants [name …]``: take out one protection at a time, and see its tests go red.

First the tests run on the code as it is, where all must be green. Then each mutant's tests run without its protection,
where each must fail, by an assertion or its time, not because something cannot be imported. A survivor, or a patch that no
longer applies, makes the exit code 1.
"""

from __future__ import annotations

import argparse
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.lane import Case, Lane
from tests.mutants.patches import Mutant, PatchError, check, mutants


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    #: red, SURVIVED, or PROBLEM.
    word: str
    said: str
    seconds: float


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these (or all whose names begin so)")
    parser.add_argument("--lanes", type=int, default=2, help="copies of the tree that are tried side by side")
    parser.add_argument("--trust", action="store_true", help="leave out the run on the code as it is")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    options = parser.parse_args()
    try:
        chosen = _chosen(mutants(), options.names)
        for mutant in chosen:
            check(mutant)
    except PatchError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 1
    if options.list:
        print("\n".join(f"{mutant.name}: {mutant.why}" for mutant in chosen))
        return 0
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # ignored, as in a script's background, pytest would ignore them, too
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="ledgerq-mutants-"))
    folder.chmod(0o755)
    lanes: list[Lane] = []
    try:
        lanes.extend(Lane(folder / str(number)) for number in range(options.lanes))
        return 1 if not (options.trust or _is_green(chosen, lanes)) else _try_all(chosen, lanes)
    except KeyboardInterrupt:
        return 130
    finally:
        for lane in lanes:
            lane.end()
        shutil.rmtree(folder, ignore_errors=True)


def _chosen(known: Sequence[Mutant], names: Sequence[str]) -> list[Mutant]:
    for name in names:
        if not any(mutant.name.startswith(name) for mutant in known):
            raise PatchError(f"no mutant is called {name}; there are {', '.join(mutant.name for mutant in known)}")
    return [mutant for mutant in known if not names or mutant.name.startswith(tuple(names))]


def _is_green(chosen: Sequence[Mutant], lanes: Sequence[Lane]) -> bool:
    """Whether all tests are, with every protection in its place."""
    begun = time.monotonic()
    tests = sorted({test for mutant in chosen for test in mutant.red})
    print(f"{len(tests)} tests on the code as it is …", flush=True)
    try:
        cases = lanes[0].run(tests, processes=len(lanes))
    except RuntimeError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return False
    if wrong := [case for case in cases if case.outcome != "passed"]:
        print(lanes[0].log)
        print("mutants: not green on the code as it is: " + ", ".join(case.test for case in wrong), file=sys.stderr)
        return False
    print(f"… are green ({time.monotonic() - begun:.0f} s)", flush=True)
    return True


def _try_all(chosen: Sequence[Mutant], lanes: Sequence[Lane]) -> int:
    begun = time.monotonic()
    verdicts = _side_by_side(chosen, lanes)
    bad = [verdict for verdict in verdicts if verdict.word != "red"]
    for verdict in bad:
        print(f"{verdict.word}: {verdict.mutant.name} ({verdict.mutant.file}): {verdict.said}")
    seconds = time.monotonic() - begun
    print(
        f"{len(verdicts)} protections taken out, {len(verdicts) - len(bad)} noticed, {len(bad)} not ({seconds:.0f} s)"
    )
    return 1 if bad else 0


def _side_by_side(chosen: Sequence[Mutant], lanes: Sequence[Lane]) -> list[Verdict]:
    free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
    for lane in lanes:
        free.put(lane)
    lock = threading.Lock()
    count = 0

    def one(mutant: Mutant) -> Verdict:
        nonlocal count
        lane = free.get()
        try:
            verdict = _verdict(mutant, lane)
        finally:
            free.put(lane)
        with lock:
            count += 1
            print(
                f"[{count:2}/{len(chosen)}] {verdict.word:8} {verdict.seconds:5.1f} s  {mutant.name}: {verdict.said[:110]}",
                flush=True,
            )
        return verdict

    with ThreadPoolExecutor(len(lanes)) as threads:
        futures = [threads.submit(one, mutant) for mutant in chosen]
        try:
            return [future.result() for future in as_completed(futures)]
        except BaseException:
            for future in futures:
                future.cancel()
            for lane in lanes:
                lane.end()
            raise


def _verdict(mutant: Mutant, lane: Lane) -> Verdict:
    begun = time.monotonic()
    try:
        cases = lane.run(mutant.red, mutant)
    except (RuntimeError, PatchError) as error:
        return Verdict(mutant, "PROBLEM", str(error), time.monotonic() - begun)
    seconds = time.monotonic() - begun
    said = ""
    for test in mutant.red:
        own = [case for case in cases if test in (case.test, case.test.partition("[")[0])]
        red = [case for case in own if case.is_red]
        if not red:
            return _unnoticed(mutant, test, own, seconds)
        said = said or red[0].said
    return Verdict(mutant, "red", said, seconds)


def _unnoticed(mutant: Mutant, test: str, cases: Sequence[Case], seconds: float) -> Verdict:
    if cases and all(case.outcome == "passed" for case in cases):
        return Verdict(mutant, "SURVIVED", f"{test} stays green", seconds)
    said = "; ".join(f"{case.outcome}: {case.said[:200]}" for case in cases if case.outcome != "passed")
    return Verdict(mutant, "PROBLEM", f"{test} did not fail by itself: {said or 'it did not run'}", seconds)


if __name__ == "__main__":
    sys.exit(main())
