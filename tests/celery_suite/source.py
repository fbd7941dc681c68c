"""Fetches Celery's integration tests from its published source distribution; nothing of them is in this repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

_HERE = Path(__file__).parent
#: Seconds that a test may take; one that waits for what never comes costs them whole.
TEST_SECONDS = 45
#: In place of the 60 seconds for which a test of test_canvas.py waits for a result.
_CANVAS_SECONDS = 15


class NotToBeHad(Exception):
    """The source distribution cannot be downloaded here; the text says why."""


def fetch(scratch: Path) -> None:
    """Fill ``scratch`` with what pytest runs there: Celery's tests, our shim, the application.

    Raises:
        NotToBeHad: no package index answers, or it has no source distribution.
    """
    name = f"celery=={version('celery')}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-binary", ":all:", "--no-deps", "--dest", str(scratch)]
    done = subprocess.run([*command, *options, name], capture_output=True, text=True, check=False)
    archives = sorted(scratch.glob("celery-*.tar.gz"))
    if done.returncode or not archives:
        said = (done.stderr or done.stdout).strip().splitlines() or ["pip said nothing"]
        raise NotToBeHad(f"pip could not download the source of {name}: {said[-1]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(scratch, filter="data")
    shutil.copytree(scratch / archives[0].name.removesuffix(".tar.gz") / "t", scratch / "t")
    tests = scratch / "t" / "integration"
    with (tests / "conftest.py").open("a") as conftest:
        conftest.write("\n\n" + (_HERE / "shim.py").read_text())
    canvas = tests / "test_canvas.py"
    canvas.write_text(re.sub(r"^TIMEOUT = 60$", f"TIMEOUT = {_CANVAS_SECONDS}", canvas.read_text(), flags=re.MULTILINE))
    shutil.copy(_HERE / "application.py", scratch / "application.py")
    (scratch / "pytest.ini").write_text(_INI)


_INI = """[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:ledgerq -p celery.contrib.pytest
python_classes = test_*
markers =
    sleepdeprived_patched_module
    masked_modules
    patched_environ
    patched_module
    flaky
    timeout
    amqp
    celery
"""
