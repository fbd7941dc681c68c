"""``python -m tests.celery_suite``: exit code 1 if a test passes with a stock worker and, unexplained, not with ours."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from tests.celery_suite import contenders, source
from tests.celery_suite.verdicts import Comparison, Known, outcomes
from tests.support import servers

_FILES = (
    "test_tasks.py",
    "test_canvas.py",
    "test_inspect.py",
    "test_group_chains.py",
    "test_beat.py",
    "test_redis_backend.py",
    "test_worker.py",
)
#: What tells most in a few minutes: one task's life, groups and chains, what a worker says of itself.
_SHORT = ("test_tasks.py", "test_group_chains.py", "test_inspect.py", "test_redis_backend.py", "test_worker.py")
#: pytest's exit codes of a run that came to its end: all tests are green, or some are not.
_JUDGED = (0, 1)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make test-celery", description=__doc__)
    parser.add_argument("tests", nargs="*", help="files, or file::test; none: the short form")
    parser.add_argument("--whole", action="store_true", help="all files, and also the tests that are known not to pass")
    parser.add_argument("--pool", default="prefork", choices=("prefork", "threads", "solo"))
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="ledgerq-celery-suite-"))
    run = servers.open_run()
    try:
        try:
            source.fetch(scratch)
        except source.NotToBeHad as error:
            print(f"SKIPPED: {error}")
            return 0
        asked = options.tests or (_FILES if options.whole else _SHORT)
        known = Known.read()
        without = [] if options.whole or options.tests else list(known.reasons)
        if without:
            print(f"left out: the {len(without)} tests of known.toml (WHOLE=1 runs them, too)", flush=True)
        return _judge(_run(run, scratch, options.pool, asked, without), known)
    finally:
        servers.close_run(run)
        if options.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def _run(run: Path, scratch: Path, pool: str, asked: list[str], without: list[str]) -> list[dict[str, str]]:
    with contenders.stock(run, scratch, pool) as stock, contenders.ledgerq(run, scratch, pool) as ours:
        began = time.monotonic()
        running = {
            name: contenders.run_tests(environment, scratch, name, asked, without)
            for name, environment in (("stock", stock), ("ledgerq", ours))
        }
        try:
            for name, (process, _) in running.items():
                process.wait()
                print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        finally:
            for process, _ in running.values():
                process.kill()
                process.wait()
    for name, (process, _) in running.items():
        if process.returncode not in _JUDGED:
            raise SystemExit(f"pytest has not ended well ({name}):\n{(scratch / f'{name}.log').read_text()[-3000:]}")
    return [outcomes(report) for _, report in running.values()]


def _judge(found: list[dict[str, str]], known: Known) -> int:
    stock, ours = found
    comparison = Comparison(stock, ours, known)
    print("\n".join(comparison.table()))
    unexplained, outdated = comparison.unexplained(), comparison.outdated()
    for heading, lines in (
        ("not with LedgerQ, and nobody has said why", unexplained),
        ("passes, so it is to be taken out of tests/celery_suite/known.toml", outdated),
    ):
        for line in lines:
            print(f"{heading}: {line}")
    return 1 if unexplained or outdated or not comparison.applicable else 0


if __name__ == "__main__":
    raise SystemExit(main())
