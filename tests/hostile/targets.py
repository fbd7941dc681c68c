"""What is attacked: `make run` with its embedded servers, and Compose; their stores lie on a small disk of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil
import psycopg2

from ledgerq_shared.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedValkey
from tests.support import wait
from tests.support.compose import ComposeStack, copy_tree, docker
from tests.support.launcher import launch

if TYPE_CHECKING:
    from tests.support.stack import Running, Stack

ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE = ROOT / "deploy" / "compose" / ".env.example"
_TASKS = Path(__file__).with_name("hostile_tasks.py")
_DISK_MIB = 1536
#: Where cgroups are of version 1, all containers together have the weight of one process of the machine's unless it is
#: changed: the attackers' processes, and other people's, would have as much of it as API, worker and stores together.
_WEIGHT = Path("/sys/fs/cgroup/cpu/docker/cpu.shares")
_WEIGHT_OF_ONE, _CONTAINERS = 1024, 8


def memory_limit() -> int:
    """Bytes that Compose gives the API."""
    [line] = [line for line in _EXAMPLE.read_text().splitlines() if line.startswith("LEDGERQ_STACK_API_MEMORY=")]
    return int(line.partition("=")[2].removesuffix("m")) * 1024 * 1024


class Disk:
    """A file system of its own in ``folder``, which can be filled without hurting anybody else. Needs root."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "disk"
        self._image = folder / "disk.image"
        self._filling = self.place / "filling"
        #: Why there is none; empty: there is one.
        self.missing = ""

    def mount(self) -> None:
        """Make it; without the rights for it there is a plain folder, and ``missing`` says so."""
        self.place.mkdir()
        try:
            with self._image.open("wb") as image:
                image.truncate(_DISK_MIB * 1024 * 1024)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(self._image)], check=True, capture_output=True)  # noqa: S607
            subprocess.run(["mount", "-o", "loop", str(self._image), str(self.place)], check=True, capture_output=True)  # noqa: S607
        except (OSError, subprocess.CalledProcessError) as error:
            self.missing = f"a disk of its own cannot be mounted here: {error}"
        self.place.chmod(0o755)

    def fill(self) -> None:
        """Leave no byte."""
        descriptor = os.open(self._filling, os.O_WRONLY | os.O_CREAT)
        try:
            for size in (1 << 24, 1 << 16, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        at = os.fstat(descriptor).st_size
                        os.posix_fallocate(descriptor, at, size)
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """As before."""
        self._filling.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Away with it."""
        if not self.missing:
            wait.until(self._is_unmounted, 30, interval=0.5, what="the disk is no longer used")
        self._image.unlink(missing_ok=True)
        shutil.rmtree(self.place, ignore_errors=True)

    def _is_unmounted(self) -> bool:
        return not subprocess.run(["umount", str(self.place)], capture_output=True, check=False).returncode  # noqa: S607


class Store(Protocol):
    """PostgreSQL or Redis of a target."""

    name: str

    def stop(self) -> None:
        """In order."""

    def kill(self) -> None:
        """As the kernel would."""

    def freeze(self) -> None:
        """Nothing of it runs any more, and its connections stay."""

    def thaw(self) -> None:
        """It goes on."""

    def start(self) -> None:
        """Unless it runs. Returns when it has been started."""


class Target(Protocol):
    """A running LedgerQ. ``key`` is the honest client's, ``attacker`` the attackers'; empty: nobody needs one."""

    name: str
    url: str
    key: str
    attacker: str
    database_url: str
    disk: Disk
    stores: dict[str, Store]

    def processes(self) -> list[int]:
        """The pids of the API's processes."""

    def journal(self) -> str:
        """What the tasks wrote, an id a line."""

    def logs(self) -> str:
        """What the services wrote last."""

    def close(self) -> None:
        """Nothing of it stays."""


class _Embedded:
    """A server of `make run`, by the record that the launcher's own object wrote."""

    def __init__(self, name: str, server: EmbeddedPostgres | EmbeddedValkey) -> None:
        self.name = name
        self._server = server
        self._frozen: list[psutil.Process] = []

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._server.stop()  # it is known to be gone: else the launcher starts it again

    def freeze(self) -> None:
        self._frozen = self._all()
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def start(self) -> None:
        def started() -> bool:
            if not self._server.processes():
                with contextlib.suppress(EmbeddedError):  # a killed server's processes may still be going
                    self._server.start()
            return bool(self._server.processes())

        wait.until(started, 60, interval=0.5, what=f"{self.name} starts")

    def _all(self) -> list[psutil.Process]:
        found = []
        for process in self._server.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                one = psutil.Process(process.pid)
                found += [one, *one.children(recursive=True)]
        return found


class MakeRun:
    """`make run`: the launcher with the embedded servers. No key is needed, since it is on loopback."""

    name = "make run"
    key = attacker = ""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.disk = Disk(folder)
        self.disk.mount()
        data = self.disk.place / "data"
        shutil.copy(_TASKS, stack.folder)
        self._journal = stack.folder / "journal"
        self._launcher: Running = launch(
            stack, "--run-monitor", standins=False, LEDGERQ_DATA_DIR=str(data), LEDGERQ_TASK_MODULES="hostile_tasks",
            LEDGERQ_LOG_LEVEL="warning", HOSTILE_JOURNAL=str(self._journal),
        )  # fmt: skip
        self._launcher.says("Stop with Ctrl-C", timeout=120)
        self.url = self._launcher.url
        lines = (data / "urls.env").read_text().splitlines()
        [self.database_url] = [line.partition("=")[2] for line in lines if line.startswith("DATABASE_URL=")]
        self.stores = {
            "PostgreSQL": _Embedded("PostgreSQL", EmbeddedPostgres(data)),
            "Redis": _Embedded("Redis", EmbeddedValkey(data)),
        }

    def processes(self) -> list[int]:
        found = []
        for process in psutil.Process(self._launcher.pid).children():
            with contextlib.suppress(psutil.Error):  # it is ending
                if "ledgerq_api" in process.cmdline():
                    found.append(process.pid)
        return found

    def journal(self) -> str:
        return self._journal.read_text() if self._journal.exists() else ""

    def logs(self) -> str:
        return self._launcher.log()[-4000:]

    def close(self) -> None:
        for store in self.stores.values():
            store.thaw()
        self.disk.free()
        code = self._launcher.stop()
        self.disk.unmount()
        assert code == 0, self._launcher.log()[-4000:]


class _Contained:
    """A store of Compose, by its container."""

    def __init__(self, name: str, stack: ComposeStack, service: str) -> None:
        self.name = name
        self._stack = stack
        self._service = service

    def stop(self) -> None:
        self._stack.compose("stop", self._service)

    def kill(self) -> None:
        self._stack.compose("kill", self._service)

    def freeze(self) -> None:
        self._stack.compose("pause", self._service)

    def thaw(self) -> None:
        if self._stack.container(self._service)["State"]["Paused"]:
            self._stack.compose("unpause", self._service)

    def start(self) -> None:
        self._stack.compose("start", self._service)


class Composed:
    """`docker compose up` from a copy of this tree, with PostgreSQL's volume on the small disk. Everybody needs a key."""

    name = "Compose"

    def __init__(self, folder: Path) -> None:
        self.disk = Disk(folder)
        self.disk.mount()
        data = self.disk.place / "postgresql"
        data.mkdir()
        data.chmod(0o777)
        tree = copy_tree(ROOT, folder / "tree")
        shutil.copy(_TASKS, tree / "deploy" / "compose" / "tasks")
        volume = f"{{driver: local, driver_opts: {{type: none, o: bind, device: {data}}}}}"
        (tree / "disk.yaml").write_text(f"volumes: {{postgres: {volume}}}\n")
        self._stack = ComposeStack(
            f"ledgerq-hostile-{os.getpid()}",
            tree,
            {"LEDGERQ_STACK_TASK_MODULES": "hostile_tasks", "COMPOSE_FILE": "deploy/compose/compose.yaml:disk.yaml"},
        )
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _weigh(processes: int) -> None:
        with contextlib.suppress(OSError):  # version 2, or another driver: each container has a weight of its own
            _WEIGHT.write_text(str(_WEIGHT_OF_ONE * processes))

    def _start(self) -> None:
        stack = self._stack
        self._weigh(_CONTAINERS)
        stack.sh("docker compose build", timeout=500)
        stack.compose("up", "--detach", "--wait", "--wait-timeout", "240", timeout=300)
        # Docker's own proxy stands before the published port for clients on the same host. It needs six descriptors for a
        # connection, and ends for good at its limit of them ("Stopping proxy on tcp/..."): thousands of streams are enough.
        self.url = stack.inner_url
        self.key = stack.bearer["Authorization"].removeprefix("Bearer ")
        self.attacker = stack.sh(
            "docker compose run --rm --no-deps --interactive=false keys "
            "ledgerq keys create --name attacker --scope tasks:submit --scope tasks:read"
        ).stdout.split()[-1]
        self.database_url = stack.database_url
        self.stores = {
            "PostgreSQL": _Contained("PostgreSQL", stack, "postgres"),
            "Redis": _Contained("Redis", stack, "redis"),
        }

    def processes(self) -> list[int]:
        top = psutil.Process(self._stack.container("api")["State"]["Pid"])
        return [process.pid for process in top.children(recursive=True)] or [top.pid]

    def journal(self) -> str:
        return docker("exec", self._stack.container("worker")["Id"], "cat", "/tmp/journal")

    def logs(self) -> str:
        return self._stack.logs()

    def close(self) -> None:
        self._weigh(1)
        self.disk.free()
        self._stack.remove()
        self._stack.remove_images()
        self.disk.unmount()


def is_listening(database_url: str) -> bool:
    """Whether PostgreSQL serves."""
    with contextlib.suppress(psycopg2.Error):
        psycopg2.connect(database_url, connect_timeout=2).close()
        return True
    return False
