"""Stores that are reached by TLS, or by a Unix socket: verified unless somebody says otherwise, and everything works."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from ledgerq_shared.broker import Broker
from ledgerq_shared.settings import StoreSettings
from tests.support import http, wait
from tests.support.proxy import TlsProxy, UnixProxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stack import Stack

TASKS = """
from celery import shared_task
from clients.celery.base_tasks import DatabaseAwareTask

@shared_task(bind=True, base=DatabaseAwareTask)
def double(self, number):
    return number * 2
"""


@pytest.fixture
def certificate(workspace: Path) -> Path:
    """Of a server called `localhost`, signed by itself, with its key."""
    openssl = shutil.which("openssl") or pytest.skip("no openssl on PATH to make a certificate with")
    path = workspace / "server.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", str(path) + ".key", "-out", str(path),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + path.with_name("server.pem.key").read_text())
    return path


@pytest.mark.parametrize(
    ("host", "query", "is_let_in"),
    [
        ("localhost", "?ssl_ca_certs={}", True),
        ("localhost", "", False),  # nobody whom we trust has signed it
        ("127.0.0.1", "?ssl_ca_certs={}", False),  # it is another's
        ("localhost", "?ssl_cert_reqs=none", True),
    ],
    ids=["trusted", "unknown", "wrong name", "whoever it is"],
)
def test_redis_by_tls_is_verified_unless_the_url_says_otherwise(
    certificate: Path, redis_database: str, database: str, host: str, query: str, is_let_in: bool
):
    with TlsProxy(redis_database, certificate=certificate, host=host) as redis:
        url = StoreSettings(
            database_url=database, redis_url=redis.url + query.format(certificate), _env_file=None
        ).broker_url
        broker = Broker(url, client_name="test")
        assert broker.ping() == is_let_in
        broker.close()


@pytest.mark.parametrize("way", ["TLS", "Unix socket"])
def test_a_task_goes_all_the_way_through_stores_that_are_reached_otherwise(
    stack: Stack, workspace: Path, certificate: Path, database: str, redis_database: str, way: str
):
    (stack.folder / "doubling.py").write_text(TASKS)
    redis_way = (
        TlsProxy(redis_database, certificate=certificate)
        if way == "TLS"
        else UnixProxy(redis_database, workspace / "redis.sock")
    )
    with TlsProxy(database, certificate=certificate) as postgres, redis_way as redis:
        redis_url = redis.url + (f"?ssl_ca_certs={certificate}" if way == "TLS" else "")
        stack.environment |= {
            "DATABASE_URL": f"{postgres.url}?sslmode=verify-full&sslrootcert={certificate}",
            "REDIS_URL": redis_url,
            "LEDGERQ_TASK_MODULES": "doubling",
        }
        stack.register()
        stack.worker(LEDGERQ_WORKER_CONCURRENCY="1")
        api = stack.api()
        body = {"task_type": "doubling.double", "task_parameters": {"number": 21}}
        task_id = http.request("POST", f"{api.url}/tasks/submit", body).json()["task_id"]

        def result() -> object:
            status = json.loads(http.request("GET", f"{api.url}/tasks/{task_id}/status").body)
            return status["result"] if status["status"] == "SUCCESS" else None

        wait.until(lambda: result() == 42, 60, what=stack.logs)
        stores = StoreSettings(database_url=database, redis_url=redis_url, _env_file=None)
        plain = Celery("plain", broker=stores.broker_url, backend=stores.result_backend, set_as_current=False)
        assert plain.AsyncResult(task_id).get(timeout=30) == 42
        plain.close()
        stack.close()
