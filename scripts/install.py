"""Runs pip for `make`: a line that moves while it installs, and one sentence when it cannot.

    .venv/bin/python scripts/install.py WHAT PIP-ARGUMENT...

`WHAT` names it for people. What pip says is kept in the environment's `install.log`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

#: What pip says when it reaches no index. Where there is none at all, it only says that it has found no version.
_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|Read timed out|Max retries exceeded|Network is unreachable"
    r"|No matching distribution|ProxyError|SSLError"
)


def main(arguments: list[str]) -> int:
    """Run it; return pip's exit code."""
    what, *rest = arguments
    log = Path(sys.prefix, "install.log")
    expected = sum(_packages_in(Path(name)) for name in rest if name.endswith(".txt"))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", *rest]
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as pip,
    ):
        assert pip.stdout is not None
        for step in _steps(_kept(pip.stdout, file), expected):
            _show(what, step)
    if sys.stdout.isatty():
        sys.stdout.write("\n")
    if pip.returncode:
        sys.stderr.write(f"{_reason(log.read_text(encoding='utf-8'))} What pip said is in {log}.\n")
    return pip.returncode


def _packages_in(path: Path) -> int:
    return len(re.findall(r"^[A-Za-z0-9].*==", path.read_text(encoding="utf-8"), re.MULTILINE)) if path.is_file() else 0


def _kept(lines: Iterable[str], file: TextIO) -> Iterator[str]:
    for line in lines:
        file.write(line)
        yield line


def _steps(lines: Iterator[str], expected: int) -> Iterator[str]:
    done = 0
    for line in lines:
        if line.startswith(("Collecting ", "Obtaining ")):
            done += 1
            of = f" of {expected}" if expected >= done else ""
            yield f"{done}{of} packages"
        elif line.startswith("Installing collected packages"):
            yield f"writing {done} packages"


def _show(what: str, step: str) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r  {what}: {step:<30}")
    elif not step[0].isdigit() or step.partition(" ")[0].endswith(("1", "6")):
        sys.stdout.write(f"  {what}: {step}\n")
    sys.stdout.flush()


def _reason(said: str) -> str:
    if _NO_NETWORK.search(said):
        return (
            "Packages cannot be downloaded: is there a network? Behind a proxy set HTTPS_PROXY, and where an index of "
            "your own is used PIP_INDEX_URL; then run make again."
        )
    if "No space left on device" in said:
        return "Packages cannot be installed: the disk is full. Make room (some 500 MB), then run make again."
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return f"Packages cannot be installed: {errors[0] if errors else 'pip does not say why'}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
