"""Servers and processes of a run: own embedded PostgreSQL and Valkey (fsync on), processes stopped by pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from benchmarks import counting
from ledgerq_shared.embedded import EmbeddedServers
from tests.support import databases
from tests.support.stack import Stack

HERE = Path(__file__).parent
ROOT = HERE.parent


@dataclass
class Bed:
    """What one run of benchmarks stands on."""

    folder: Path
    postgres_url: str
    redis_url: str
    postgres_pid: int
    redis_pid: int
    #: Python of the environment that has the peers' packages.
    peers_python: str

    @property
    def stores(self) -> dict[str, int]:
        """The servers' process trees, for `cpu.spent`."""
        return {"postgres": self.postgres_pid, "redis": self.redis_pid}

    @property
    def counts(self) -> Path:
        """Where no-op tasks count themselves."""
        return self.folder / "counts"

    @contextlib.contextmanager
    def stack(self, **environment: str) -> Iterator[Stack]:
        """LedgerQ on a fresh database and an emptied Redis."""
        url = databases.create(self.postgres_url)
        try:
            databases.migrate(url)
            with self.bare(DATABASE_URL=url, REDIS_URL=self.redis_url, **environment) as stack:
                yield stack
        finally:
            databases.drop(self.postgres_url, url)

    @contextlib.contextmanager
    def bare(self, *, python: str = sys.executable, **environment: str) -> Iterator[Stack]:
        """Processes in an empty folder, ended afterwards; Redis is emptied before."""
        empty_redis(self.redis_url)
        counting.clear(self.counts)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        environment = {
            counting.FOLDER_VARIABLE: str(self.counts),
            "PYTHONPATH": str(ROOT),
            "BENCH_REDIS": self.redis_url,
            **environment,
        }
        stack = Stack(folder, f"bench-{self.folder.name}", environment, python=python)
        try:
            yield stack
        except BaseException:
            print(stack.logs()[-6000:])
            raise
        finally:
            stack.close()
            shutil.rmtree(folder, ignore_errors=True)


def empty_redis(url: str) -> None:
    """FLUSHALL: the server is the run's own."""
    with redis.Redis.from_url(url) as client:
        client.flushall()


@contextlib.contextmanager
def make_bed() -> Iterator[Bed]:
    """Start the servers; stop and delete them at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ledgerq-bench-"))
    folder.chmod(0o755)
    servers = EmbeddedServers(folder / "servers", durable=True)
    try:
        urls = servers.start()
        pids = {process.pid for process in servers.processes()}
        names = {psutil.Process(pid).name(): pid for pid in pids}
        postgres = next(pid for name, pid in names.items() if "postgres" in name)
        redis_pid = next(pid for name, pid in names.items() if "postgres" not in name)
        peers = os.environ.get("BENCH_PEERS_PYTHON", str(ROOT / ".venv-bench" / "bin" / "python"))
        yield Bed(folder, urls.database_url, urls.redis_url, postgres, redis_pid, peers)
    finally:
        servers.stop()
        with contextlib.suppress(Exception):
            servers.remove()
        shutil.rmtree(folder, ignore_errors=True)
