"""A real Redis with a replica and three sentinels, whose master can be killed."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any, Self

import redis

from ledgerq_shared.embedded.ports import LOOPBACK
from ledgerq_shared.embedded.processes import TOKEN_VARIABLE
from ledgerq_shared.embedded.valkey import server_program
from tests.support import wait
from tests.support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

#: Of the servers, and of the sentinels themselves.
PASSWORD, SENTINEL_PASSWORD = "server-secret", "sentinel-secret"
MASTER_NAME = "ledgerq"
_START_SECONDS = 30


class WatchedRedis:
    """Master, replica and sentinels, each a process of its own below ``folder``. A context manager.

    Args:
        token: of the test run, which ends what a killed test leaves.
    """

    def __init__(self, folder: Path, *, token: str) -> None:
        self._folder = folder / "watched"
        self._token = token
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._sentinels: list[int] = []

    def __enter__(self) -> Self:
        """Start all, and wait until every sentinel knows the others and the replica."""
        self._folder.mkdir()
        first = self._server()
        self._server(replica_of=first)
        for _ in range(3):
            self._sentinels.append(self._sentinel(first))
        wait.until(self._is_complete, _START_SECONDS, what="sentinels that know one another")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what is left, by pid."""
        for process in self._processes.values():
            process.kill()
            process.wait(10)

    @property
    def url(self) -> str:
        """As users write it."""
        return self.url_of(MASTER_NAME)

    def url_of(self, master_name: str) -> str:
        """The same sentinels, asked for another master."""
        first, *others = (f"{LOOPBACK}:{port}" for port in self._sentinels)
        rest = "".join(f";sentinel://{one}" for one in others)
        query = f"?master_name={master_name}&sentinel_password={SENTINEL_PASSWORD}"
        return f"sentinel://:{PASSWORD}@{first}{rest}/3{query}"

    @property
    def master(self) -> int:
        """Port of the master that the sentinels name."""
        address: Any = self._ask(self._sentinels[-1]).sentinel_get_master_addr_by_name(MASTER_NAME)
        return int(address[1])

    def client(self) -> redis.Redis:
        """A plain client of the present master."""
        return redis.Redis(LOOPBACK, self.master, db=3, password=PASSWORD, socket_timeout=5)

    def kill_master(self) -> None:
        """SIGKILL: the sentinels notice and promote the replica."""
        self._end(self.master)

    def demote_master(self) -> None:
        """Ask for a switch, as before maintenance: the master lives on, as a replica."""
        self._ask(self._sentinels[-1]).sentinel_failover(MASTER_NAME)

    def kill_first_sentinel(self) -> None:
        """SIGKILL the one that the URL names first."""
        self._end(self._sentinels[0])

    def _end(self, port: int) -> None:
        process = self._processes.pop(port)
        process.kill()
        process.wait(10)

    def _is_complete(self) -> bool:
        for port in self._sentinels:
            state: Any = self._ask(port).sentinel_master(MASTER_NAME)
            if state["num-other-sentinels"] < len(self._sentinels) - 1 or state["num-slaves"] < 1:
                return False
            replicas: Any = self._ask(port).sentinel_slaves(MASTER_NAME)
            if any(one["is_sdown"] or one["master-link-status"] != "ok" for one in replicas):
                return False
        return True

    def _ask(self, port: int) -> redis.Redis:
        return redis.Redis(LOOPBACK, port, password=SENTINEL_PASSWORD, socket_timeout=5)

    def _server(self, replica_of: int | None = None) -> int:
        lines = [
            f"requirepass {PASSWORD}",
            f"masterauth {PASSWORD}",
            "save ''",
            "appendonly no",
            "repl-diskless-sync-delay 0",
        ]
        if replica_of is not None:
            lines.append(f"replicaof {LOOPBACK} {replica_of}")
        return self._start("server", lines, PASSWORD)

    def _sentinel(self, master: int) -> int:
        lines = [
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"sentinel monitor {MASTER_NAME} {LOOPBACK} {master} 2",
            f"sentinel auth-pass {MASTER_NAME} {PASSWORD}",
            f"sentinel down-after-milliseconds {MASTER_NAME} 1500",
            f"sentinel failover-timeout {MASTER_NAME} 10000",
        ]
        return self._start("sentinel", lines, SENTINEL_PASSWORD, "--sentinel")

    def _start(self, kind: str, lines: list[str], password: str, *flags: str) -> int:
        port = free_port()
        own = self._folder / f"{kind}-{port}"
        own.mkdir()
        configuration = own / "valkey.conf"
        configuration.write_text("\n".join([f"bind {LOOPBACK}", f"port {port}", f"dir {own}", *lines, ""]))
        program = os.environ.get("TEST_REDIS_SERVER") or server_program()
        with (own / "log").open("wb") as log:
            self._processes[port] = subprocess.Popen(
                [program, str(configuration), *flags],
                env={**os.environ, TOKEN_VARIABLE: self._token},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

        def answers() -> bool:
            try:
                return bool(redis.Redis(LOOPBACK, port, password=password, socket_timeout=5).ping())
            except redis.RedisError:
                assert self._processes[port].poll() is None, (own / "log").read_text()
                return False

        wait.until(answers, _START_SECONDS, what=(own / "log").read_text)
        return port
