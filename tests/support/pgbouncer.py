"""Debian's PgBouncer in transaction mode before a database of the tests, and what clients have left in its sessions."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg2

from ledgerq_shared.embedded.account import Account
from tests.support import wait
from tests.support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

#: Connections to PostgreSQL: fewer than the clients have, so that they change hands all the time.
POOL_SIZE = 6

#: Settings that PgBouncer itself carries from one client to the next.
_CARRIED = (
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "standard_conforming_strings",
)

# Everything that belongs to a session and would meet the next client.
_LEFT = """
SELECT pg_backend_pid(), 'prepared statement', name FROM pg_prepared_statements
UNION ALL SELECT pg_backend_pid(), 'listens to', channel FROM pg_listening_channels() AS channel
UNION ALL SELECT pg_backend_pid(), 'cursor', name FROM pg_cursors WHERE is_holdable
UNION ALL SELECT pg_backend_pid(), 'temporary table', relname FROM pg_class WHERE relpersistence = 't'
UNION ALL SELECT pg_backend_pid(), 'session lock', locktype FROM pg_locks WHERE locktype = 'advisory'
UNION ALL SELECT pg_backend_pid(), 'setting', name FROM pg_settings WHERE source = 'session' AND name <> ALL (%s)
"""


def is_installed() -> bool:
    """Whether the machine has one."""
    return shutil.which("pgbouncer") is not None


def version() -> str:
    """Its own words."""
    return subprocess.run([_program(), "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


def _program() -> str:
    program = shutil.which("pgbouncer")
    assert program
    return program


class PgBouncer:
    """One process before one server. ``folder`` must be in reach of the system user that runs servers for root."""

    def __init__(self, folder: Path, database_url: str, *, pool_size: int = POOL_SIZE) -> None:
        target = urlsplit(database_url)
        self._folder = folder
        self._account = Account.choose()
        self._port = free_port()
        self.url = f"postgresql://anybody:anything@127.0.0.1:{self._port}{target.path}"
        self._ini = folder / "pgbouncer.ini"
        # No startup parameter is ignored: one that PgBouncer does not carry must be seen as an error.
        self._ini.write_text(
            "[databases]\n"
            f"* = host={target.hostname} port={target.port} user={target.username} password={target.password}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = {pool_size}\nmax_client_conn = 200\n"
        )
        self._account.own(self._ini)
        self._ini.chmod(0o600)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Start it; returns its process id when it answers."""
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), str(self._ini)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._account.spawn_options(),
            )  # fmt: skip
        wait.until(self._answers, 20, what=self.log)
        return self._process.pid

    def stop(self) -> None:
        """Kill it: all clients lose their connections, in the middle of whatever they do."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def log(self) -> str:
        """What it wrote."""
        return (self._folder / "pgbouncer.log").read_text(errors="replace")

    def left_in_sessions(self) -> tuple[int, list[tuple[object, ...]]]:
        """How many of its sessions were looked into, and what clients have left there.

        As many transactions as there are sessions are open at once, so each is on another one.
        """
        pids: set[object] = set()
        found: list[tuple[object, ...]] = []
        with ExitStack() as stack:
            for _ in range(POOL_SIZE):
                connection = psycopg2.connect(self.url)
                stack.callback(connection.close)
                cursor = connection.cursor()
                cursor.execute("SELECT pg_backend_pid()")
                pids.update(row[0] for row in cursor.fetchall())
                cursor.execute(_LEFT, (list(_CARRIED),))
                found += cursor.fetchall()
        return len(pids), found

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.url).close()
        except psycopg2.OperationalError:
            return False
        return True
