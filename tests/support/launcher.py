"""The launcher under test: ``main.py`` as users run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ledgerq_shared.embedded.processes import Process, read_record
from tests.support.ports import free_port

if TYPE_CHECKING:
    from tests.support.stack import Running, Stack

ROOT = Path(__file__).resolve().parents[2]
STANDINS = Path(__file__).parent / "standins"
MAIN = ROOT / "main.py"


def launch(stack: Stack, *flags: str, standins: bool = True, **environment: str) -> Running:
    """Start ``python main.py --api-port <free> <flags>`` in the stack's folder; return at once.

    With ``standins`` the API and the worker are tiny programs: the launcher alone is under test.
    """
    port = free_port()
    if standins:
        environment["PYTHONPATH"] = str(STANDINS)
    environment.setdefault("LEDGERQ_MONITOR_PORT", str(free_port()))
    environment.setdefault("LEDGERQ_FLOWER_PORT", str(free_port()))
    environment.setdefault("LEDGERQ_METRICS_PORT", "0")
    running = stack.start("launcher", str(MAIN), "--api-port", str(port), *flags, **environment)
    running.url = f"http://127.0.0.1:{port}"
    return running


def fails(stack: Stack, *flags: str, code: int, **environment: str) -> str:
    """Run the launcher, which must give up with ``code`` and one line; return the line."""
    running = stack.start("launcher", str(MAIN), *flags, PYTHONPATH=str(STANDINS), **environment)
    assert running.wait(60) == code, running.log()
    lines = running.log().splitlines()
    assert len(lines) == 1, running.log()
    return lines[0]


def recorded(data_folder: Path) -> list[Process]:
    """Return every process that the launcher and its servers have written down."""
    found = []
    for path in sorted((data_folder / "run").glob("*.json")):
        found += read_record(path)[0]
    return found
