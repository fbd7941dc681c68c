"""Three PostgreSQL servers that Patroni looks after, with etcd: as operators run them, on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from ledgerq_shared.embedded.account import Account
from ledgerq_shared.embedded.processes import TOKEN_VARIABLE
from tests.support import databases, guides, http, wait
from tests.support.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType

PASSWORD = "cluster-secret"
#: Seconds for which a leader that is not heard of stays the leader. Patroni takes no less than 20.
TTL: int = guides.dcs()["ttl"]
_BEGIN_SECONDS = 120.0


def programs() -> dict[str, str] | str:
    """Where `patroni`, `etcd` and PostgreSQL's programs are, as `scripts/test-ha` found them; or what is missing."""
    found = {name: os.environ.get(f"HA_{name.upper()}") or shutil.which(name) for name in ("patroni", "etcd")}
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found["postgresql"] = str(servers[-1].parent) if servers else None
    missing = [name for name, path in found.items() if path is None]
    return f"no {', '.join(missing)}" if missing else {name: path for name, path in found.items() if path is not None}


class Node:
    """One server and its Patroni."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.name = f"node{number}"
        self.port, self.rest_port = free_port(), free_port()
        self.folder = cluster.folder / self.name
        self._cluster = cluster
        self._patroni: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Also after :meth:`kill`."""
        if not self.folder.exists():
            self.folder.mkdir()
            self._cluster.account.own(self.folder)
        path = self._cluster.folder / f"{self.name}.yml"
        path.write_text(json.dumps(self._configuration()))  # JSON is YAML
        self._patroni = self._cluster.spawn(self.name, self._cluster.programs["patroni"], str(path))

    def kill(self) -> None:
        """The host is gone."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._patroni is not None:
            self._patroni.wait(10)

    def freeze(self) -> None:
        """The host stands still."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """It goes on."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def ask(self, path: str, body: object) -> None:
        """Of Patroni: `switchover`, `restart`."""
        answer = http.request("POST", f"http://127.0.0.1:{self.rest_port}/{path}", body, timeout=90)
        assert answer.status in (200, 202), answer.body

    def _family(self) -> list[psutil.Process]:
        """Patroni first, then the server: neither starts anything any more."""
        roots = []
        if self._patroni is not None and self._patroni.poll() is None:
            roots.append(psutil.Process(self._patroni.pid))
        with contextlib.suppress(OSError, psutil.NoSuchProcess, IndexError):
            pid = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
            server = psutil.Process(pid)
            if server.name() == "postgres":
                roots.append(server)
        children = []
        for root in roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                children += root.children(recursive=True)
        return [*roots, *children]

    def _configuration(self) -> dict[str, Any]:
        return {
            "scope": "ledgerq",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest_port}", "connect_address": f"127.0.0.1:{self.rest_port}"},
            "etcd3": {"host": f"127.0.0.1:{self._cluster.etcd_port}"},
            "bootstrap": {
                "dcs": guides.dcs(),
                "initdb": [{"encoding": "UTF8"}, "no-locale", "data-checksums"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.folder / "data"),
                "bin_dir": self._cluster.programs["postgresql"],
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": PASSWORD},
                    "replication": {"username": "replicator", "password": PASSWORD},
                },
                "parameters": {"unix_socket_directories": str(self.folder)},
                "pg_hba": [
                    "host all all 127.0.0.1/32 scram-sha-256",
                    "host replication replicator 127.0.0.1/32 scram-sha-256",
                ],
            },
        }


class Cluster:
    """Starts etcd and three nodes, of whose two standbys one confirms each commit. A context manager.

    Args:
        token: of the test run, which ends what a killed test leaves.
    """

    def __init__(self, folder: Path, programs: dict[str, str], *, token: str) -> None:
        self.folder = folder / "cluster"
        self.programs = programs
        self.account = Account.choose()
        self.etcd_port, self._peer_port = free_port(), free_port()
        self._token = token
        self.nodes: list[Node] = []
        self._etcd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Wait until all three are there, and make role and database."""
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        self.folder.mkdir()
        self.folder.chmod(0o755)
        etcd = self.folder / "etcd"
        etcd.mkdir(mode=0o700)
        self.account.own(etcd)
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._etcd = self.spawn(
            "etcd", self.programs["etcd"], "--data-dir", str(etcd), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--unsafe-no-fsync",
        )  # fmt: skip
        self.nodes = [Node(self, number + 1) for number in range(3)]
        for node in self.nodes:
            node.start()
        leader = self.settle(_BEGIN_SECONDS)
        for statement in guides.statements():
            databases.execute(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{leader.port}/postgres", statement)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what is left, by pid."""
        for node in self.nodes:
            node.thaw()
            node.kill()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait(10)

    @property
    def url(self) -> str:
        """All servers, in no particular order."""
        return self.url_of(",".join(f"127.0.0.1:{node.port}" for node in self.nodes))

    def url_of(self, place: str) -> str:
        """The ledger's URL, by whoever answers there; role and database are the guide's."""
        return f"postgresql://ledgerq:secret@{place}/ledgerq"

    @property
    def primary_url(self) -> str:
        """The same, for whoever reads it as it is."""
        return f"{self.url}?target_session_attrs=primary"

    def leader(self) -> Node | None:
        """The node that says of itself that it leads; None: no node just now."""
        for node in self.nodes:
            # One that stands still must not hide for long who leads instead.
            if http.answers(f"http://127.0.0.1:{node.rest_port}/primary", timeout=0.5):
                return node
        return None

    def settle(self, timeout: float = 120.0) -> Node:
        """Wait until all three are there again, and both standbys may confirm; who leads."""
        wait.until(
            self._is_settled, timeout, interval=0.5, what=lambda: f"a whole cluster: {self._members()} {self.logs()}"
        )
        leader = self.leader()
        assert leader is not None
        return leader

    def spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """A process of the account that PostgreSQL runs as."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ["PATH"], TOKEN_VARIABLE: self._token}, **self.account.spawn_options(),
            )  # fmt: skip

    def logs(self) -> str:
        """The end of what each has written."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in self.folder.glob("*.log")
        )

    def _members(self) -> list[dict[str, Any]]:
        for node in self.nodes:
            with contextlib.suppress(OSError):
                members: list[dict[str, Any]] = http.request(
                    "GET", f"http://127.0.0.1:{node.rest_port}/cluster", timeout=5
                ).json()["members"]
                return members
        return []

    def taking_writes(self) -> Node | None:
        """Who leads and has a synchronous standby, without which commits wait; None: nobody just now."""
        leader = self.leader()
        return leader if leader is not None and ("quorum", "streaming") in self._followers(leader) else None

    def _followers(self, leader: Node) -> list[tuple[str, str]]:
        """By the word of the leader's server: what Patroni's nodes tell of themselves may be seconds old."""
        with contextlib.suppress(OSError, ValueError):
            told = http.request("GET", f"http://127.0.0.1:{leader.rest_port}/patroni", timeout=2).json()
            return [(one["sync_state"], one["state"]) for one in told.get("replication", [])]
        return []

    def _is_settled(self) -> bool:
        """As all nodes report it: Patroni promotes only a node that it knows to be synchronous, and PostgreSQL may wait
        for any.
        """
        roles = sorted(str(one.get("role")) for one in self._members() if one.get("state") in ("running", "streaming"))
        leader = self.leader()
        return (
            roles == ["leader", "quorum_standby", "quorum_standby"]
            and leader is not None
            and self._followers(leader) == [("quorum", "streaming")] * 2
        )
