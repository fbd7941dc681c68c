"""Writes files that are made from the code, or compares them with `--check`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(made: Mapping[Path, str], *, target: str) -> int:
    """Returns the exit code: 1 if `--check` was given and a file is not current; such a file is named.

    Args:
        made: what each file should say.
        target: the make target that writes them.
    """
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
        if stale:
            sys.stderr.write(f"not current: {', '.join(stale)}; run `make {target}`\n")
        return int(bool(stale))
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0
