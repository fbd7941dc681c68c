"""A copy of the tree, with an environment that imports it, in which tests run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants.patches import ROOT, Mutant

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A test that takes longer than this has failed, in seconds. (One that hangs in C code is not so easily ended.)
_TEST_LIMIT = 90
#: A run of a mutant's tests, or of all tests, that takes longer is given up.
_RUN_LIMIT = 240.0
_TESTS_LIMIT = 1800.0
#: Failures that tell of a patch that does not work, not of a protection that is missing.
_BROKEN = ("SyntaxError", "IndentationError", "ImportError", "ModuleNotFoundError", "NameError", "UndefinedColumn",
           "UndefinedTable", "UndefinedFunction")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What became of one test."""

    #: ``tests/….py::test_name``, with its parameters.
    test: str
    #: passed, failed, error (before or after the test itself) or skipped.
    outcome: str
    #: The failure's first line.
    said: str = ""

    @property
    def is_red(self) -> bool:
        """Whether it failed, and not because the patch is broken."""
        return self.outcome == "failed" and not any(kind in self.said.partition(":")[0] for kind in _BROKEN)


class Lane:
    """One copy; one run at a time.

    Args:
        folder: to be made.
    """

    def __init__(self, folder: Path) -> None:
        self._tree = folder / "tree"
        self._log = folder / "pytest.log"
        self._report = folder / "report.xml"
        self._writes = 0
        self._running: subprocess.Popen[bytes] | None = None
        self._is_ended = False
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (self._tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self._tree / name)
        self._python = self._environment(folder / "environment")

    def run(self, tests: Sequence[str], mutant: Mutant | None = None, *, processes: int = 1) -> list[Case]:
        """Run ``tests``, without a protection or as they are.

        Raises:
            RuntimeError: pytest did not get to run them; says why.
        """
        if mutant is None:
            return self._run(tests, _TESTS_LIMIT, processes)
        path = self._tree / mutant.file
        before = path.read_text("utf-8")
        self._write(path, mutant.applied(before))
        try:
            self._check_import(mutant)
            return self._run(tests, _RUN_LIMIT)
        finally:
            self._write(path, before)

    def end(self) -> None:
        """End what runs, and let nothing more begin."""
        self._is_ended = True
        if self._running is not None:
            self._stop(self._running)

    @property
    def log(self) -> str:
        """What the last run wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _environment(self, folder: Path) -> Path:
        """A virtual environment that looks into the copy first, and then where ours looks."""
        packages = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        packages.mkdir(parents=True)
        (folder / "bin").mkdir()
        python = folder / "bin" / "python"
        python.symlink_to(getattr(sys, "_base_executable", sys.executable))
        shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
        sources = [self._tree / "shared" / "src", *sorted(self._tree.glob("services/*/src"))]
        lines = [*map(str, sources), f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"]
        (packages / "copy.pth").write_text("\n".join(lines) + "\n")
        return python

    def _write(self, path: Path, text: str) -> None:
        """Python compares size and second of the change to know whether a compiled file is current, so these must
        differ each time.
        """
        self._writes += 1
        path.write_text(text, "utf-8")
        os.utime(path, (0, 1_000_000_000 + self._writes))

    def _check_import(self, mutant: Mutant) -> None:
        source, _, module = mutant.file.partition("/src/")
        if not module.endswith(".py") or "/migrations/" in module:
            return
        name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        code = f"import {name} as it; print(it.__file__)"
        done = subprocess.run([self._python, "-c", code], capture_output=True, text=True, check=False, cwd=self._tree)
        if done.returncode or done.stdout.strip() != str(self._tree / mutant.file):
            raise RuntimeError(f"{source}: {name} cannot be imported: {(done.stderr or done.stdout).strip()[-300:]}")

    def _run(self, tests: Sequence[str], limit: float, processes: int = 1) -> list[Case]:
        self._report.unlink(missing_ok=True)
        command = [
            str(self._python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={self._report}",
            "-o", f"timeout={_TEST_LIMIT}", "-o", "timeout_method=signal", *tests,
        ]  # fmt: skip
        command[4:4] = ["-n", str(processes), "--dist", "worksteal"] if processes > 1 else []
        if self._is_ended:
            raise RuntimeError("interrupted")
        with self._log.open("wb") as log:
            self._running = subprocess.Popen(
                command, cwd=self._tree, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            code = self._running.wait(limit)
        except subprocess.TimeoutExpired:
            self._stop(self._running)
            raise RuntimeError(f"not done within {limit:g} s") from None
        finally:
            self._running = None
        if code not in (0, 1) or not self._report.exists():
            raise RuntimeError(f"pytest ended with {code}: {' '.join(self.log.split())[-300:]}")
        return _cases(self._report)

    @staticmethod
    def _stop(running: subprocess.Popen[bytes]) -> None:
        """At SIGINT pytest takes down its servers."""
        with contextlib.suppress(ProcessLookupError):
            running.send_signal(signal.SIGINT)
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _cases(report: Path) -> list[Case]:
    found = []
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own pytest has written it
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        outcomes = {child.tag: child.get("message") or "" for child in case}
        for tag, outcome in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
            if tag in outcomes:
                found.append(Case(test, outcome, outcomes[tag].strip().partition("\n")[0]))
                break
        else:
            found.append(Case(test, "passed"))
    return found
