"""`python -m benchmarks drain --rounds 3 --number 60000 --only ledgerq --only dramatiq`."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback

from benchmarks import page
from benchmarks.bed import make_bed
from benchmarks.options import Options
from ledgerq_shared.process.logging import configure
from ledgerq_shared.settings import LogSettings

#: Modules of this package, in the order in which `all` runs them.
ALL = ("drain", "http", "end-to-end", "latency", "due", "mixed", "memory", "idle")


def main() -> None:
    """Run what was asked for on servers of our own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("benchmark", nargs="*", default=[], help=f"{', '.join(ALL)}; none: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--number", type=int, default=100_000, help="tasks of LedgerQ's backlog; the others' follow")
    parser.add_argument("--only", action="append", default=[], help="rows whose name contains this (and the base)")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/reference/performance.md")
    asked = parser.parse_args()
    unknown = [name for name in asked.benchmark if name not in ALL]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}: there are {', '.join(ALL)}")
    options = Options(max(1, asked.rounds), asked.number, tuple(name for name in asked.only if name))
    configure(LogSettings(log_level="error"), service="bench")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped and deleted
    done = []
    with make_bed() as bed:
        for name in asked.benchmark or ALL:
            begun = time.monotonic()
            try:
                importlib.import_module(f"benchmarks.{name.replace('-', '_')}").run(bed, options)
            except Exception:  # an hour of the others' figures shall not be lost
                traceback.print_exc()
            else:
                done.append(name)
            print(f"{name} took {time.monotonic() - begun:.0f} s", flush=True)
    if asked.page:
        page.write(done)
    if failed := [name for name in asked.benchmark or ALL if name not in done]:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
