"""A PostgreSQL's data folder that was made once in this run, with the ledger's tables: a copy of it costs a tenth.

For tests that need a server of their own and are not about its first start.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ledgerq_shared.embedded import EmbeddedPostgres
from tests.support import databases
from tests.support.servers import locked, other_postgres, run_of

if TYPE_CHECKING:
    from pathlib import Path

_KEPT = ("postgres", "postgres.password")


def plant(folder: Path) -> None:
    """Let the server that will run in ``folder`` find its data there; the first caller of a run makes them."""
    run = run_of(folder)
    seed = run / "seed"
    with locked(run / "seed.lock"):
        if not seed.exists():
            _make(run / "seed.new")
            (run / "seed.new").rename(seed)
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["/bin/cp", "-a", *(str(seed / name) for name in _KEPT), str(folder)], check=True)


def _make(folder: Path) -> None:
    # A standby must allow at least as many connections as the data were made with.
    server = EmbeddedPostgres(folder, max_connections=20, fsync=False, programs=other_postgres())
    databases.migrate(server.start())
    server.stop()
