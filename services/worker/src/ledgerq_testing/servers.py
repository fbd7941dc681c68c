"""The session's own PostgreSQL and Valkey, in a temporary folder that goes with them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ledgerq_shared.embedded import EmbeddedError, EmbeddedServers
from ledgerq_shared.embedded.servers import Urls
from ledgerq_shared.migrate import upgrade

_PREFIX = "ledgerq-testing-"


@contextlib.contextmanager
def running_servers() -> Iterator[Urls]:
    """Start both, with the ledger's tables; nothing is written to a disk for good. What killed sessions left is removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_left(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    folder.chmod(0o755)  # the system user that runs PostgreSQL instead of root must get in
    servers = EmbeddedServers(folder / "servers", redis_databases=1, durable=False)
    try:
        urls = servers.start()
        upgrade(urls.database_url)
        yield urls
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(folder: Path) -> None:
    if not (folder / "servers" / "run").is_dir():
        return  # another session makes it just now
    with contextlib.suppress(EmbeddedError, OSError):  # a living session has it, or it is somebody else's
        EmbeddedServers(folder / "servers").remove()
        shutil.rmtree(folder, ignore_errors=True)
