"""The two workers, each with a Valkey of its own, and pytest against them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import redis

from ledgerq_shared.embedded.valkey import server_program
from tests.celery_suite.source import TEST_SECONDS
from tests.support import databases, servers, wait
from tests.support.ports import free_port
from tests.support.stack import Stack, clean_environment

_NODE = "ledgerq@suite"
#: Celery's tests were written for a worker with one process.
_SLOTS = "1"
#: What the workers' processes have in common with the tests.
_TOLD = ("PYTHONPATH", "TEST_BROKER", "TEST_BACKEND", "REDIS_HOST", "REDIS_PORT")


@contextlib.contextmanager
def stock(run: Path, scratch: Path, pool: str) -> Iterator[dict[str, str]]:
    """Celery's own worker; yields the environment of the tests."""
    with _own(run, scratch, "stock") as (stack, environment):
        options = ("-P", pool, "-c", _SLOTS, "-n", _NODE, "-l", "INFO")
        stack.start("stock", "-m", "celery", "-A", "application", "worker", *options).says("ready.", 60)
        yield environment


@contextlib.contextmanager
def ledgerq(run: Path, scratch: Path, pool: str) -> Iterator[dict[str, str]]:
    """LedgerQ's worker and maintenance; yields the environment of the tests, which know nothing of them."""
    with _own(run, scratch, "ledgerq") as (stack, environment):
        postgres = databases.create(servers.shared_servers(run).postgres_url)
        stack.environment |= {
            "DATABASE_URL": postgres,
            "REDIS_URL": environment["TEST_BROKER"],
            "CELERY_BROKER_URL": environment["TEST_BROKER"],
            "CELERY_RESULT_BACKEND": environment["TEST_BACKEND"],
            "LEDGERQ_CELERY_APP": "application:app",
            "LEDGERQ_WORKER_QUEUES": "celery",
            "LEDGERQ_WORKER_POOL": pool,
            "LEDGERQ_WORKER_NAME": _NODE.partition("@")[2],
            "LEDGERQ_WORKER_CONCURRENCY": _SLOTS,
        }
        databases.migrate(postgres)
        stack.register()
        stack.maintenance()
        stack.worker(LEDGERQ_WORKER_CONCURRENCY=_SLOTS)
        wait.until(lambda: databases.rows(postgres, "SELECT FROM worker"), 60, what=lambda: f"it works; {stack.logs()}")
        yield environment


def run_tests(
    environment: dict[str, str], scratch: Path, name: str, asked: Sequence[str], without: Sequence[str]
) -> tuple[subprocess.Popen[bytes], Path]:
    """Start pytest on the files or tests ``asked``, but not on those ``without``; returns it and its report."""
    report = scratch / f"{name}.xml"
    deselected = [f"--deselect=t/integration/{one}" for one in without]
    files = [f"t/integration/{one}" for one in asked]
    with (scratch / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-m", "pytest", "-q", "--tb=line", f"--junitxml={report}", *deselected, *files]
        process = subprocess.Popen(
            command, cwd=scratch, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    return process, report


@contextlib.contextmanager
def _own(run: Path, scratch: Path, name: str) -> Iterator[tuple[Stack, dict[str, str]]]:
    folder = run / name
    folder.mkdir()
    with contextlib.ExitStack() as exits:
        port = exits.enter_context(_valkey(folder))
        url = f"redis://127.0.0.1:{port}/0"
        environment = {
            **clean_environment(),
            "PYTHONPATH": str(scratch),
            "TEST_BROKER": url,
            "TEST_BACKEND": url,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(port),
            "SUITE_NODE": _NODE,
            "SUITE_TEST_SECONDS": str(TEST_SECONDS),
        }
        stack = Stack(folder, servers.token_of(run), {key: environment[key] for key in _TOLD})
        exits.callback(stack.close)
        yield stack, environment


@contextlib.contextmanager
def _valkey(folder: Path) -> Iterator[int]:
    """One without a password, because Celery's tests know none; yields its port."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([server_program(), *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port)

        def answers() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(client.ping())
            return False

        wait.until(answers, 20, what="Valkey answers")
        client.close()
        yield port
    finally:
        server.terminate()
        server.wait(20)
