"""Fixtures by concern; what they do stands in `tests.support`.

Run:      `run_folder` (one per pytest run), `workspace` (an empty folder per test, in reach of servers)
Stores:   `postgres_url`, `redis_url` (the run's servers), `database`, `redis_database` (this test's own, on
          them), `own_servers` (a pair that a test may stop, kill or flush)
Services: `stack` (API, worker, maintenance, monitor on `database` and `redis_database`), `bare_stack` (no
          stores set)
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from ledgerq_shared.embedded import EmbeddedServers
from tests.support import databases, servers, surroundings
from tests.support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tests assert what happens, never how fast: the machines are shared.
settings.register_profile("ledgerq", deadline=None)
settings.load_profile("ledgerq")

_RUN = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """The controller makes the run's folder; workers are told its name."""
    surroundings.as_on_a_terminal()
    told = getattr(config, "workerinput", {}).get("ledgerq_run")
    config.stash[_RUN] = Path(told) if told else servers.open_run()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: hand the run's folder to a worker."""
    node.workerinput["ledgerq_run"] = str(node.config.stash[_RUN])


def pytest_report_header() -> list[str]:
    """Which order of text this run's databases have, where it is not the server's own."""
    return [f"databases: {databases.COLLATIONS[databases.COLLATION]}"] if databases.COLLATION else []


def pytest_unconfigure(config: pytest.Config) -> None:
    """The controller ends everything that the run has started."""
    if not hasattr(config, "workerinput"):
        servers.close_run(config.stash[_RUN])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test shows what its processes wrote."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Stack):
                report.sections.append(("processes", value.logs()))


@pytest.fixture(scope="session")
def run_folder(pytestconfig: pytest.Config) -> Path:
    """The folder of this pytest run, the same for all xdist workers."""
    return pytestconfig.stash[_RUN]


@pytest.fixture
def workspace(run_folder: Path) -> Iterator[Path]:
    """An empty folder. Unlike `tmp_path`, the system user that runs PostgreSQL can reach it."""
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=run_folder))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(run_folder: Path) -> str:
    """The run's PostgreSQL: use `database` unless the test is about the server."""
    return servers.shared_servers(run_folder).postgres_url


@pytest.fixture(scope="session")
def redis_url(run_folder: Path) -> str:
    """The run's Valkey: never FLUSHALL it, other tests use it; see `own_servers`."""
    return servers.shared_servers(run_folder).redis_url


@pytest.fixture
def database(run_folder: Path, postgres_url: str) -> Iterator[str]:
    """The URL of a fresh database with all migrations applied."""
    url = databases.create(postgres_url, template=databases.migrated_template(run_folder, postgres_url))
    yield url
    databases.drop(postgres_url, url)


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    """The URL of a fresh database without tables."""
    url = databases.create(postgres_url)
    yield url
    databases.drop(postgres_url, url)


@pytest.fixture
def redis_database(run_folder: Path, redis_url: str) -> str:
    """The URL of an empty Redis database that is this test's own."""
    return databases.take_redis_database(run_folder, redis_url)


@pytest.fixture
def own_servers(workspace: Path) -> Iterator[EmbeddedServers]:
    """A pair of servers that the test may start, stop, kill and flush; not started yet."""
    pair = EmbeddedServers(workspace / "servers")
    yield pair
    pair.stop()


@pytest.fixture
def bare_stack(run_folder: Path, workspace: Path) -> Iterator[Stack]:
    """Starts processes for which nothing is configured (launcher tests, own servers)."""
    stack = Stack(workspace, servers.token_of(run_folder))
    yield stack
    stack.close()


@pytest.fixture
def stack(run_folder: Path, workspace: Path, database: str, redis_database: str) -> Iterator[Stack]:
    """Starts services on this test's own database and Redis database."""
    # An API that is started by its arguments alone takes any port: the default one may be somebody's `make run`.
    environment = {"DATABASE_URL": database, "REDIS_URL": redis_database, "LEDGERQ_API_PORT": "0"}
    services = Stack(workspace, servers.token_of(run_folder), environment)
    yield services
    services.close()
