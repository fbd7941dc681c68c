"""However a test run was started, its processes are as on a terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_RUN = """
import os, signal, subprocess, sys
from tests.support.surroundings import as_on_a_terminal
as_on_a_terminal()
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    os.kill(os.getpid(), number)
    program = f"import os; os.kill(os.getpid(), {int(number)})"
    print(subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL).returncode)
print(os.environ.get("PYTHONDONTWRITEBYTECODE"))
"""


def _ignore() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def test_a_run_under_nohup_outlives_a_hangup_and_what_it_starts_does_not():
    done = subprocess.run(
        [sys.executable, "-c", _RUN], env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(_ROOT)}, preexec_fn=_ignore,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["-1", "-2", "-3", "None"], done.stderr
