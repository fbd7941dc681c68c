"""Whether a name of the contract is already in use: the reference marks names that nothing uses yet."""

from __future__ import annotations

import functools
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_DECLARATIONS = ("errors.py", "states.py", "events.py", "task_errors.py")


def is_mentioned(name: str) -> bool:
    """Whether ``name`` occurs in the services' or the shared code, apart from the modules that declare names."""
    return name in _code()


@functools.cache
def _code() -> str:
    folders = [_ROOT / "shared" / "src", *(_ROOT / "services").glob("*/src")]
    modules = [path for folder in folders for path in folder.rglob("*.py") if path.name not in _DECLARATIONS]
    return "\n".join(path.read_text("utf-8") for path in modules)
