"""Fixtures of the chaos tests: a plant on this test's own database, short or long. The long form ends with its figures."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ledgerq_shared.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.chaos.support.plant import Plant
from tests.support import databases
from tests.support.replicated import Replicated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.stack import Stack


@dataclass(frozen=True)
class Scale:
    """How long things take: the short form within `make test`, or the long one of `make test-chaos`."""

    is_long: bool
    #: A node's lease, in seconds. The long form has the product's own.
    lease: float
    #: How long the storm of random faults goes on, in seconds.
    storm: float
    seed: int
    #: Of the long form; 0 in the short one.
    minutes: float = 0.0

    def of(self, short: int, long: int) -> int:
        """A quantity: ``long`` with ten minutes, in proportion with more or fewer, never less than ``short``."""
        return max(short, round(long * self.minutes / 10))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the tests of the long form have printed: seed, histograms, counts. They may have run in other processes."""
    if not os.environ.get("CHAOS_MINUTES"):
        return
    terminalreporter.section(f"figures (SEED={os.environ.get('CHAOS_SEED')})")
    for report in terminalreporter.stats.get("passed", ()):
        if report.when == "call" and report.capstdout.strip():
            terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]} ({report.duration:.0f} s)")
            terminalreporter.write_line(report.capstdout.rstrip())


@pytest.fixture(scope="package", autouse=True)
def quiet() -> Iterator[None]:
    """What the tests' own broker and database log is no figure, so it is silenced here, and heard again in other tests
    of this process.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def scale() -> Scale:
    """From CHAOS_MINUTES and CHAOS_SEED, which `make test-chaos` sets."""
    minutes = float(os.environ.get("CHAOS_MINUTES") or 0)
    seed = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3), "big"))
    return Scale(bool(minutes), 10.0 if minutes else 2.0, minutes * 60 or 5.0, seed, minutes)


@pytest.fixture
def valkey(workspace: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey that this test may stop, freeze and flush; started by `plant_on_valkey`."""
    server = EmbeddedValkey(workspace / "own-valkey")
    yield server
    server.stop()


@pytest.fixture
def pair(workspace: Path) -> Iterator[Replicated]:
    """A primary and its standby."""
    with Replicated(workspace) as made:
        yield made


@pytest.fixture
def plant_on_valkey(stack: Stack, database: str, valkey: EmbeddedValkey, scale: Scale) -> Iterator[Plant]:
    """A plant whose Redis is this test's own, and runs."""
    url = valkey.start()
    stack.environment["REDIS_URL"] = url
    made = Plant(stack, database, url, scale.lease)
    yield made
    made.close()


@pytest.fixture
def postgres(workspace: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that this test may stop and fill up; started by `plant_on_postgres`."""
    server = EmbeddedPostgres(workspace / "own-postgres", max_connections=40, fsync=False)
    yield server
    server.stop()


@pytest.fixture
def plant_on_postgres(stack: Stack, redis_database: str, postgres: EmbeddedPostgres, scale: Scale) -> Iterator[Plant]:
    """A plant whose PostgreSQL is this test's own, and runs."""
    url = postgres.start()
    databases.migrate(url)
    stack.environment["DATABASE_URL"] = url
    made = Plant(stack, url, redis_database, scale.lease)
    yield made
    made.close()
    stack.close()  # before the server, because an agent without one tries for a while to say farewell


@pytest.fixture
def plant(stack: Stack, database: str, redis_database: str, scale: Scale) -> Iterator[Plant]:
    """Nothing runs yet."""
    made = Plant(stack, database, redis_database, scale.lease)
    yield made
    made.close()
