"""A PostgreSQL with physical standbys, as operators run it: a primary that dies, a standby that is promoted or goes away."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from uuid import uuid4

import psutil

from ledgerq_shared.embedded import EmbeddedPostgres
from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.statements.leader import take_leadership
from tests.support import databases, seeds, wait
from tests.support.servers import other_postgres

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ledgerq_shared.embedded.processes import Process

_FOLLOWS_WITHIN = 30.0


class Server(EmbeddedPostgres):
    """One PostgreSQL of several; its name is what `synchronous_standby_names` calls it."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder / name, max_connections=100, fsync=False, programs=other_postgres())
        self.name = name
        self.url = ""

    def plant(self) -> None:
        """Give it the same data as every other server of this run, with migrated tables."""
        seeds.plant(self._folder)

    def start(self, *, same_port: bool = False) -> str:
        """Start it, on the port of its last start; returns its URL once it answers."""
        self.url = super().start(same_port=same_port)
        return self.url

    def kill(self) -> None:
        """Its host is gone: SIGKILL for all of its processes."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):  # a session that has just ended
                process.kill()
        for one in self.processes():
            one.wait(10)

    def freeze(self) -> None:
        """It stands still, and its connections stay open."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """It goes on."""
        for process in self._family():
            process.resume()

    def thaw_after(self, seconds: float) -> subprocess.Popen[bytes]:
        """Freeze it, and let another process let it go on: whoever asks may stand still meanwhile."""
        self.freeze()
        pids = " ".join(str(process.pid) for process in self._family())
        return subprocess.Popen(["/bin/sh", "-c", f"sleep {seconds}; kill -CONT {pids}"])

    def follow(self, other: Server | None) -> None:
        """As a standby: receive from ``other``, or from nobody, so that what is written from now on never gets here."""
        databases.execute(self.url, f"ALTER SYSTEM SET primary_conninfo = '{self._way_to(other) if other else ''}'")
        databases.execute(self.url, "SELECT pg_reload_conf()")
        following = ("streaming",) if other else None
        wait.until(lambda: self._following() == following, _FOLLOWS_WITHIN, what=f"{self.name} follows {other}")

    def promote(self) -> str:
        """Make a standby the primary of a new timeline; returns its URL once it takes writes."""
        assert databases.rows(self.url, "SELECT pg_promote(true, 30)") == [(True,)]
        wait.until(lambda: databases.rows(self.url, "SELECT pg_is_in_recovery()") == [(False,)], what="promoted")
        return self.url

    def demand(self, standbys: str) -> None:
        """As a primary: set ``synchronous_standby_names``, such as ``*`` or ``ANY 1 (standby1, standby2)``; empty: none."""
        databases.execute(self.url, f"ALTER SYSTEM SET synchronous_standby_names = '{standbys}'")
        databases.execute(self.url, "SELECT pg_reload_conf()")
        wait.until(lambda: databases.rows(self.url, "SHOW synchronous_standby_names") == [(standbys,)])

    def pause(self, leader: Leader) -> None:
        """As a standby: show nothing new, from some moment on that is over when this returns."""
        databases.execute(self.url, "SELECT pg_wal_replay_pause()")
        # Asked for is not done: the next record is the last one that it looks at.
        wait.until(lambda: self._stands_still_for(leader), what="the replay stands still")

    def resume(self) -> None:
        """As a standby: show what came meanwhile, and go on."""
        databases.execute(self.url, "SELECT pg_wal_replay_resume()")

    def _stands_still_for(self, leader: Leader) -> bool:
        at = "SELECT pg_last_wal_replay_lsn()::text"
        before = databases.rows(self.url, at)
        leader.next_beat()
        leader.next_beat()
        return databases.rows(self.url, at) == before

    def be_copy_of(self, primary: Server) -> None:
        """Become a standby of ``primary``, which began with the same data; not started yet."""
        data = self._folder / "postgres"
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{self._way_to(primary)}'\n")
        (data / "standby.signal").touch()
        self._account.own(data / "standby.signal")

    def _way_to(self, other: Server | None) -> str:
        parts = urlsplit((other or self).url)
        return (
            f"host={parts.hostname} port={parts.port} user={parts.username} password={parts.password} "
            f"application_name={self.name}"
        )

    def _following(self) -> tuple[object, ...] | None:
        found = databases.rows(self.url, "SELECT status FROM pg_stat_wal_receiver")
        return found[0] if found else None

    def _family(self) -> list[psutil.Process]:
        """The server first: it starts no more of the others."""
        servers = [psutil.Process(one.pid) for one in self._running()]
        return [*servers, *(child for server in servers for child in server.children(recursive=True))]

    def _running(self) -> list[Process]:
        return self.processes()


class Leader:
    """Leads maintenance on ``url``, and does nothing else: a beat every tenth of a second. A context manager."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, application_name="test-leader", size=1)
        self._holder = uuid4()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._lead, daemon=True)
        self.beats = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        self.next_beat()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; the lease stays until it is over."""
        self._ended.set()
        self._thread.join(30)
        self._database.close()

    def next_beat(self) -> None:
        """Wait until another beat was committed."""
        beats = self.beats
        wait.until(lambda: self.beats > beats + 1, what="the leader's next beat")

    def _lead(self) -> None:
        while not self._ended.wait(0.1):
            statement = take_leadership(name="maintenance", holder=self._holder, lease=4.0)
            with contextlib.suppress(LedgerUnavailable):
                [row] = self._database.fetch(statement, writes=True)
                self.beats += row.until is not None


class Replicated:
    """A primary with migrated tables, and standbys that follow it. A context manager.

    Args:
        standbys: how many; their names are ``standby1`` and so on.
    """

    def __init__(self, folder: Path, *, standbys: int = 1) -> None:
        self.primary = Server(folder, "primary")
        self.standbys = [Server(folder, f"standby{number + 1}") for number in range(standbys)]

    def __enter__(self) -> Self:
        """Start all, and wait until every standby follows."""
        for server in (self.primary, *self.standbys):
            server.plant()
        self.primary.start()
        for standby in self.standbys:
            standby.be_copy_of(self.primary)
            standby.start()
        self.all_have_it()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what is left: nobody needs the data."""
        for server in (self.primary, *self.standbys):
            server.kill()

    def all_have_it(self) -> None:
        """Wait until every standby shows what the primary has committed so far."""
        # A commit that is waited for: else the log's last bytes would go out only with the server's next round, in 15 s.
        databases.execute(
            self.primary.url, "SET synchronous_commit = local; SELECT pg_logical_emit_message(true, '', '')"
        )
        [(at,)] = databases.rows(self.primary.url, "SELECT pg_current_wal_flush_lsn()::text")
        done = [(standby.name, True) for standby in self.standbys]
        sql = "SELECT application_name, replay_lsn >= %s::pg_lsn FROM pg_stat_replication ORDER BY 1"
        wait.until(lambda: databases.rows(self.primary.url, sql, (at,)) == done, what="standbys have it")
