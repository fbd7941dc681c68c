"""What the documents say is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "README.zh-CN.md", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_the_reference_is_what_the_code_says():
    done = subprocess.run(
        [sys.executable, "scripts/make_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_flag_of_the_launcher_is_in_both_readmes():
    shown = subprocess.run(
        [sys.executable, "main.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    flags = set(re.findall(r"--(?:run|no|api|worker)-[a-z]+|--debug", shown)) - {"--run-monitor", "--no-monitor"}
    assert len(flags) >= 9
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text()
        assert not {flag for flag in flags if f"`{flag}" not in text}


def test_every_module_that_the_architecture_names_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"`(ledgerq_\w+(?:\.\w+)+)`", text):
        service = name.split(".")[0].removeprefix("ledgerq_")
        folder = ROOT / ("shared" if service == "shared" else f"services/{service}") / "src"
        path = folder / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), name
