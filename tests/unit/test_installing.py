"""What `make` says where it cannot install: one sentence with what to do, and not pip's or Python's own words."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    assert make
    return subprocess.run([make, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false", sys.executable])
def test_an_environment_of_another_python_is_one_sentence_that_says_what_to_do(tmp_path, python):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(python)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\nversion = 3.9.1\n")
    done = made(f"VENV={tmp_path}", f"{tmp_path}/.sound")
    assert done.returncode != 0
    assert "another Python" in done.stdout
    assert "make clean" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_environment_that_fits_or_that_is_not_there_yet_is_sound(tmp_path):
    assert made(f"VENV={sys.prefix}", f"{sys.prefix}/.sound").returncode == 0
    assert made(f"VENV={tmp_path}/none", f"{tmp_path}/none/.sound").returncode == 0


def test_without_an_index_the_reason_is_one_sentence():
    done = subprocess.run(
        [sys.executable, "scripts/install.py", "a package", "--no-index", "ledgerq-has-no-such-package"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert "is there a network?" in line
    assert "install.log" in line
