"""One embedded PostgreSQL and Valkey for a whole test run, shared by all pytest-xdist workers.

The controller makes a folder and ends what is in it when the run is over; whichever worker needs the servers
first starts them, under a file lock. A run that was killed is cleaned up by the next one.

``TEST_POSTGRES_PROGRAMS`` (a folder with bin/ and lib/) and ``TEST_REDIS_SERVER`` (a program) run the tests against other
versions: see ``make test-old``.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ledgerq_shared.embedded import EmbeddedPostgres, EmbeddedValkey
from ledgerq_shared.embedded.processes import Process, kill_launch, read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "ledgerq-tests-"
REDIS_DATABASES = 4096


@dataclass(frozen=True)
class ServerUrls:
    """The shared servers; tests take a database of their own on each."""

    postgres_url: str
    redis_url: str


def open_run() -> Path:
    """Make the folder of this test run; end what killed runs left."""
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner, _ = read_record(old / "owner.json")
        if owner and not owner[0].alive():
            close_run(old)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    folder.chmod(0o755)  # the system user that runs PostgreSQL as root's substitute must get in
    write_record(folder / "owner.json", [Process.of(os.getpid(), "pytest")])
    return folder


def close_run(folder: Path) -> None:
    """Kill the processes that tests left, stop the servers, delete the folder."""
    kill_launch(token_of(folder))
    _valkey(folder).stop()
    _postgres(folder).stop()
    shutil.rmtree(folder, ignore_errors=True)


def token_of(folder: Path) -> str:
    """Return the token that processes of this run carry in their environment."""
    return f"tests-{folder.name}"


def run_of(folder: Path) -> Path:
    """Return the run's folder in which ``folder`` lies."""
    return next(one for one in (folder, *folder.parents) if one.name.startswith(_PREFIX))


def shared_servers(folder: Path) -> ServerUrls:
    """Return the run's servers; the first caller starts them."""
    note = folder / "urls.json"
    with locked(folder / "servers.lock"):
        if note.exists():
            return ServerUrls(**json.loads(note.read_text()))
        urls = ServerUrls(_postgres(folder).start(), _valkey(folder).start())
        note.write_text(json.dumps(asdict(urls)))
        return urls


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive file lock, across processes."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def other_postgres() -> Path | None:
    """The programs of the PostgreSQL that this run is for; None: the wheel's."""
    programs = os.environ.get("TEST_POSTGRES_PROGRAMS")
    return Path(programs) if programs else None


def _postgres(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder / "servers", max_connections=400, programs=other_postgres())


def _valkey(folder: Path) -> EmbeddedValkey:
    return EmbeddedValkey(
        folder / "servers", databases=REDIS_DATABASES, program=os.environ.get("TEST_REDIS_SERVER") or None
    )
