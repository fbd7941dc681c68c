"""Ends the processes that a killed launcher could not stop, at the next start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledgerq_shared.embedded.processes import kill_launch, read_record

if TYPE_CHECKING:
    from pathlib import Path

# How long a process of an earlier `make run` has to end, in seconds. The tasks of its workers are in the ledger and run
# again, so there is no reason to wait for long.
_SECONDS = 10.0


def end_leftovers(run_folder: Path) -> list[str]:
    """End the children of launchers that are gone; return their names. Living launchers keep theirs."""
    ended = []
    for path in sorted(run_folder.glob("launcher-*.json")):
        processes, extra = read_record(path)
        if processes and processes[0].alive():
            continue
        for child in processes[1:]:
            if child.alive():
                ended.append(child.name)
                child.stop(seconds=_SECONDS)
        if extra.get("token"):
            kill_launch(extra["token"])
        path.unlink(missing_ok=True)
    return ended
