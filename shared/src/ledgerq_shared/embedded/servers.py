"""Both servers together, under one lock."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledgerq_shared.embedded.errors import EmbeddedError
from ledgerq_shared.embedded.passwords import write_private
from ledgerq_shared.embedded.postgres import EmbeddedPostgres
from ledgerq_shared.embedded.valkey import EmbeddedValkey
from ledgerq_shared.languages import say

if TYPE_CHECKING:
    from pathlib import Path

    from ledgerq_shared.embedded.processes import Process


@dataclass(frozen=True)
class Urls:
    """Where the servers listen; both contain passwords."""

    database_url: str
    redis_url: str


class EmbeddedServers:
    """PostgreSQL and Valkey in one folder, which belongs to one launcher at a time.

    The kernel holds the lock and releases it with its holder, so a ``kill -9`` never leaves it behind.
    ``durable=False`` turns fsync off.
    """

    def __init__(self, folder: Path, *, redis_databases: int = 16, durable: bool = True) -> None:
        self._folder = folder.resolve()
        self.postgres = EmbeddedPostgres(folder, fsync=durable)
        self.valkey = EmbeddedValkey(folder, databases=redis_databases)
        self._lock: int | None = None

    def start(self) -> Urls:
        """Start both; raises :class:`EmbeddedError` when another process has the folder."""
        self._take_lock()
        try:
            urls = Urls(self.postgres.start(), self.valkey.start())
        except BaseException:
            self.stop()
            raise
        write_private(
            self._folder / "urls.env",
            "# Where the embedded servers listen while they run.\n"
            f"DATABASE_URL={urls.database_url}\nREDIS_URL={urls.redis_url}\n",
        )
        return urls

    def stop(self) -> None:
        """Stop both, Valkey first: nothing may wake up when the ledger is going away."""
        self.valkey.stop()
        self.postgres.stop()
        (self._folder / "urls.env").unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stop_leftovers(self) -> None:
        """Stop what a killed launcher left; does nothing while a living one has the folder."""
        if not (self._folder / "run").exists():
            return
        try:
            self._take_lock()
        except EmbeddedError:
            return
        self.stop()

    def remove(self) -> None:
        """Stop both and delete all their data, wherever they are."""
        self._take_lock()
        self.stop()
        data = self.postgres.data_folder()
        if data.parent != self._folder:
            shutil.rmtree(data.parent, ignore_errors=True)
        shutil.rmtree(self._folder)

    def processes(self) -> list[Process]:
        """Return the running servers."""
        return [*self.postgres.processes(), *self.valkey.processes()]

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode().strip()
            os.close(descriptor)
            raise EmbeddedError(
                "the embedded servers in {folder} are in use by process {holder}: stop it first, or "
                "set LEDGERQ_DATA_DIR to another folder",
                folder=self._folder,
                holder=holder or say("unknown"),
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._lock = descriptor
