"""Programs of the peers that are not written in Python: built or installed once, or why they are not there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bed import ROOT

_PEERS = ROOT / "benchmarks" / "peers"


class NotThereError(Exception):
    """A peer cannot take part; the message is for the table."""


def river() -> str:
    """Path of the River peer's program; Go builds it anew if it is not current."""
    program = ROOT / ".venv-bench" / "bin" / "river-peer"
    _run("Go", ["go", "build", "-o", str(program), "."], _PEERS / "river")
    return str(program)


def node() -> str:
    """Path of Node, with the packages of the peers beside their code."""
    folder = _PEERS / "node"
    installed, asked = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < asked.stat().st_mtime:
        _run("Node", ["npm", "ci", "--no-audit", "--no-fund"], folder)
    return _find("Node", "node")


def script(name: str) -> str:
    """Path of one of the Node peers."""
    return str(_PEERS / "node" / name)


def _run(language: str, command: Sequence[str], folder: Path) -> None:
    program = _find(language, command[0])
    done = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise NotThereError(f"{' '.join(command[:2])} failed: {said}")


def _find(language: str, program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise NotThereError(f"{language} is not installed ({program} is not on PATH)")
    return path
