"""Imported first by programs in which no code of users runs: loads two libraries without what these would load only
because it is installed.

structlog loads Rich to draw tracebacks, and ours are plain; redis-py loads OpenTelemetry's SDK to measure itself, and
nobody asks it to. Both together take a quarter of the processor time in which a lease agent begins. In a worker's own
processes a task may use the one or the other.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

_NEEDLESS = {"structlog": "rich", "redis": "opentelemetry.sdk"}


def _load(library: str, needless: str) -> None:
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    if library in modules or needless in modules:
        return
    modules[needless] = None  # which Python takes for: there is no such module
    try:
        import_module(library)
    finally:
        del modules[needless]


for _library, _module in _NEEDLESS.items():
    _load(_library, _module)
