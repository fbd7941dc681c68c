"""A Compose project on a real dockerd: from a copy of a source tree, under a name and a port of its own."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.support import databases, http, ledger_checks, wait
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What a user of main.py may have in `.env`: none of it is right inside a container.
USERS_ENV = """DATABASE_URL=postgresql://me:hunter2@localhost:5432/mine
REDIS_URL=redis://localhost:6379/0
CELERY_BROKER_URL=redis://localhost:6379/0
CELERY_RESULT_BACKEND=redis://localhost:6379/0
LEDGERQ_TASK_MODULES=module_of_main_py
LEDGERQ_API_PORT=9
LEDGERQ_ALLOW_ANONYMOUS=true
"""
LONG_RUNNING = ("api", "worker", "maintenance", "monitor", "flower", "postgres", "redis")
#: Whose ports are published.
PUBLISHED = ("api", "flower")
ONCE = ("secrets", "migrate", "keys")


def copy_tree(repository: Path, target: Path, *, commit: str | None = None) -> Path:
    """The files of a commit, or what is in the work tree and not ignored; with a user's `.env` in it."""
    target.mkdir()
    if commit is None:
        listed = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode()
        for name in filter(None, listed.split("\0")):
            if (repository / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(repository / name, target / name)
    else:
        archive = _git(repository, "archive", commit)
        subprocess.run(["tar", "-x", "-C", str(target)], input=archive, check=True)  # noqa: S607
    (target / ".env").write_text(USERS_ENV)
    return target


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(repository), *arguments],  # noqa: S607
        check=True,
        capture_output=True,
    ).stdout


def docker(*arguments: str, timeout: float = 120) -> str:
    """Run docker; return what it wrote. It must succeed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S607
    assert done.returncode == 0, f"docker {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


@dataclass
class ComposeStack:
    """One project. ``tree`` is where its files are; change it to upgrade."""

    project: str
    tree: Path
    variables: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    flower_port: int = field(default_factory=free_port)
    locust_port: int = field(default_factory=free_port)
    key: str = ""

    def environment(self) -> dict[str, str]:
        """The shell's environment: nothing in it configures LedgerQ but this stack's variables."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LEDGERQ_", "DATABASE_", "REDIS_", "CELERY_")) or name.startswith("LEDGERQ_STACK_")
        }
        return {
            **kept,
            "COMPOSE_PROJECT_NAME": self.project,
            "LEDGERQ_STACK_API_PORT": str(self.port),
            "LEDGERQ_STACK_FLOWER_PORT": str(self.flower_port),
            "LEDGERQ_STACK_LOCUST_PORT": str(self.locust_port),
            **{f"LEDGERQ_STACK_{name}_IMAGE": f"{self.project}-{name.lower()}:test" for name in _OURS},
            **self.variables,
        }

    def sh(self, command: str, *, timeout: float = 180, succeeds: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a line as a person would type it in the tree."""
        done = subprocess.run(
            ["bash", "-ec", command],  # noqa: S607
            cwd=self.tree,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not succeeds or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def compose(self, *arguments: str, timeout: float = 180) -> str:
        """Run ``docker compose``; return its standard output."""
        done = subprocess.run(
            ["docker", "compose", *arguments],  # noqa: S607
            cwd=self.tree,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"compose {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The last lines of every container."""
        done = subprocess.run(
            ["docker", "compose", "logs", "--no-color", "--tail", "15"],  # noqa: S607
            cwd=self.tree,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    def remove(self) -> None:
        """Containers, networks, volumes and the images that were built for this project."""
        subprocess.run(
            ["docker", "compose", "--profile", "*", "down", "--volumes", "--timeout", "1", "--remove-orphans"],  # noqa: S607
            cwd=self.tree,
            env=self.environment(),
            capture_output=True,
            timeout=180,
            check=False,
        )

    def remove_images(self) -> None:
        """The images of this project."""
        for name in _OURS:
            subprocess.run(
                ["docker", "image", "rm", "--force", f"{self.project}-{name.lower()}:test"],  # noqa: S607
                capture_output=True,
                timeout=60,
                check=False,
            )

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """``docker inspect`` of the project's containers, those that ended included."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        return json.loads(docker("inspect", *ids)) if ids else []

    def container(self, service: str) -> dict[str, Any]:
        """``docker inspect`` of a service's only container."""
        [found] = self.containers(service)
        return found

    @property
    def url(self) -> str:
        """The API, from outside."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def bearer(self) -> dict[str, str]:
        """The header with the first key; read as the guide says."""
        if not self.key:
            shown = "docker compose run --rm --no-deps --interactive=false keys cat /run/ledgerq/access/api_key"
            self.key = self.sh(shown).stdout.strip()
            assert len(self.key) >= 43, self.key
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def inner_url(self) -> str:
        """The API by its container's address, as a reverse proxy in Docker reaches it: without Docker's own proxy, which
        connections of the same host to a published port go through.
        """
        networks = self.container("api")["NetworkSettings"]["Networks"].values()
        return f"http://{next(network['IPAddress'] for network in networks)}:8000"

    @property
    def database_url(self) -> str:
        """PostgreSQL by its container's address: it publishes no port."""
        networks = self.container("postgres")["NetworkSettings"]["Networks"]
        address = networks[f"{self.project}_stores"]["IPAddress"]
        password = self.compose("exec", "-T", "postgres", "cat", "/run/ledgerq/secrets/postgres_password").strip()
        return f"postgresql://ledgerq:{password}@{address}:5432/ledgerq"

    def call(self, method: str, path: str, body: object = None) -> http.Response:
        """One request with the key."""
        return http.request(method, self.url + path, body, headers=self.bearer)

    def submit(self, task_type: str, **parameters: Any) -> str:
        """Submit one task; return its id."""
        answer = self.call("POST", "/tasks/submit", {"task_type": task_type, "task_parameters": parameters})
        assert answer.status == 202, answer.body
        return str(answer.json()["task_id"])

    def ended(self, task_id: str, timeout: float = 60) -> dict[str, Any]:
        """Wait for a task's end; return its status."""

        def final() -> dict[str, Any] | None:
            answer = self.call("GET", f"/tasks/{task_id}/status").json()
            return answer if answer["status"] in ("SUCCESS", "FAILURE", "REVOKED") else None

        found = wait.until(final, timeout, interval=0.2, what=lambda: f"the end of {task_id}:\n{self.logs()}")
        assert found is not None
        return found

    def answers(self, timeout: float = 60) -> None:
        """Wait until the API is ready."""
        wait.until(lambda: http.answers(self.url + "/readyz"), timeout, interval=0.2, what=self.logs)

    def healthy(self, timeout: float = 120) -> None:
        """Wait until every long-running container is healthy."""

        def states() -> dict[str, str]:
            return {
                one["Config"]["Labels"]["com.docker.compose.service"]: one["State"].get("Health", {}).get("Status", "")
                for one in self.containers(*LONG_RUNNING)
            }

        wait.until(
            lambda: set(states().values()) == {"healthy"},
            timeout,
            interval=0.5,
            what=lambda: f"{states()} {self.logs()}",
        )

    def kill_main_process(self, service: str) -> None:
        """``kill -9`` from the host, as the kernel would when memory runs out."""
        os.kill(self.container(service)["State"]["Pid"], signal.SIGKILL)


_OURS = ("API", "WORKER", "MONITOR", "LOCUST")


@dataclass
class Load:
    """Submits tasks again and again from a thread. ``accepted`` are the ids that were answered with 202."""

    stack: ComposeStack
    task_type: str
    parameters: dict[str, Any] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)
    refused: int = 0

    def __enter__(self) -> Self:
        """Begin; return when the first tasks are accepted."""
        self._ended = threading.Event()
        self._headers = self.stack.bearer
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait.until(lambda: len(self.accepted) >= 5, 60, what=lambda: f"{self.refused} refused; {self.stack.logs()}")
        return self

    def __exit__(self, *_: object) -> None:
        """Submit nothing more."""
        self._ended.set()
        self._thread.join(60)

    def more(self, tasks: int = 5, timeout: float = 60) -> None:
        """Wait until so many more are accepted: the API works again."""
        enough = len(self.accepted) + tasks
        wait.until(lambda: len(self.accepted) >= enough, timeout, what=lambda: f"no more submits; {self.stack.logs()}")

    def all_succeeded(self) -> None:
        """Wait for the end of all that was accepted: SUCCESS, once each, in a sound ledger."""
        url = self.stack.database_url

        def states() -> dict[str, int]:
            ids = ",".join(f"'{task_id}'" for task_id in self.accepted)
            found = databases.rows(url, f"SELECT state, count(*)::int FROM task WHERE id IN ({ids}) GROUP BY 1")
            return {str(state): int(str(count)) for state, count in found}

        wanted = {"SUCCESS": len(self.accepted)}
        done = states()
        while done != wanted:  # more may wait than is done in any fixed time; but something must go on
            before = done
            wait.until(lambda: states() != before, 120, interval=0.5, what=lambda: f"{states()}\n{self.stack.logs()}")  # noqa: B023
            done = states()
        ledger_checks.assert_sound(url)

    def _run(self) -> None:
        for number in self._numbers():
            body = {"task_type": self.task_type, "task_parameters": {**self.parameters, "number": number}}
            try:
                answer = http.request("POST", self.stack.url + "/tasks/submit", body, headers=self._headers, timeout=15)
            except Exception:  # refused, reset, cut off in the middle: whatever a dying server does
                answer = http.Response(0)
            if answer.status == 202:
                self.accepted.append(answer.json()["task_id"])
            else:
                assert answer.status in (0, 503), answer
                self.refused += 1

    def _numbers(self) -> Iterator[int]:
        for number in itertools.count():
            if self._ended.wait(0.05):
                return
            yield number
